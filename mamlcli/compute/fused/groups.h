// Tasks as they are computed together: which of them share a vector, what they need, and the sum of their gradients.

#pragma once

#include <algorithm>

#include "network.h"

namespace {

// Data of all tasks, one seed after the other, each as its tensor lies in memory.
template <typename T> struct Data {
    const T *params, *support_x, *support_y, *query_x, *query_y;
};

// Tasks that share a vector: some of those of a pack, which is a few seeds whose tasks fill vectors well. In a pack the
// tasks of its seeds lie in consecutive lanes, and the next pack begins with a vector of its own. So a seed's tasks lie
// in the same lanes whoever computes the seeds beside it, and their sum has the same bits. That may be another process,
// of whose seeds nothing lies in the memory of this one: then the first pack begins before seed 0.
struct Group {
    int64_t pack;       // the first seed of the pack
    int64_t first;      // which of the pack's tasks is in lane 0
    int64_t low, high;  // those of the pack's tasks that are computed; the other lanes repeat them

    int64_t task_in(int lane) const { return std::clamp(first + lane, low, high - 1); }
};

// How many seeds make a pack: as few as leave less than a twentieth of the lanes idle.
inline int64_t seeds_of_pack(int64_t tasks, int64_t width) {
    int64_t best = 1;
    double least = 1;
    for (int64_t seeds = 1; seeds <= width && least > 0.05; seeds++) {
        const int64_t used = seeds * tasks, lanes = (used + width - 1) / width * width;
        const double idle = 1 - double(used) / lanes;
        if (idle < least) best = seeds, least = idle;
    }
    return best;
}

// Some of a pack's groups, one after the other: those whose gradients are summed first, and then added to those before.
struct Part {
    int64_t pack, begin, end;  // the first seed of the pack; from which of its groups to which
    int64_t low, high, width;  // those of the pack's tasks that are computed

    Group operator[](int64_t group) const {
        const int64_t first = group * width;
        return {pack, first, std::max(low, first), std::min(high, first + width)};
    }
};

// The parts that tasks of the seeds from `begin` up to `end` are in, in the order in which they add up. A part begins at
// every so many groups of a pack, whichever of its seeds are computed: so the order of a sum is always the same.
class Parts {
  public:
    static constexpr int64_t groups_of_part = 4;

    Parts(int64_t tasks, int64_t width, int64_t begin, int64_t end, int64_t before)
        : tasks(tasks), width(width), seeds(seeds_of_pack(tasks, width)), begin(begin), end(end), before(before) {
        for (int64_t pack = first_pack(); pack < end; pack += seeds) total += last(pack) - first(pack);
    }

    int64_t size() const { return total; }

    Part operator[](int64_t index) const {
        int64_t pack = first_pack();
        for (; index >= last(pack) - first(pack); pack += seeds) index -= last(pack) - first(pack);
        const int64_t group = (first(pack) + index) * groups_of_part;
        return {pack, std::max(group, low(pack) / width), std::min(group + groups_of_part, up(high(pack), width)),
                low(pack), high(pack), width};
    }

  private:
    int64_t tasks, width, seeds, begin, end, before, total = 0;

    int64_t first_pack() const { return (before + begin) / seeds * seeds - before; }
    static int64_t up(int64_t count, int64_t of) { return (count + of - 1) / of; }
    int64_t low(int64_t pack) const { return std::max(begin - pack, int64_t(0)) * tasks; }
    int64_t high(int64_t pack) const { return (std::min(end, pack + seeds) - pack) * tasks; }
    int64_t first(int64_t pack) const { return low(pack) / width / groups_of_part; }
    int64_t last(int64_t pack) const { return up(up(high(pack), width), groups_of_part); }
};

// Calls visit(seed, from, to) for the lanes that each seed has in a group.
template <typename Visit> void for_each_seed(const Problem& problem, const Group& group, Visit visit) {
    for (int64_t seed = group.low / problem.tasks; seed * problem.tasks < group.high; seed++)
        visit(group.pack + seed, std::max(seed * problem.tasks, group.low) - group.first,
              std::min((seed + 1) * problem.tasks, group.high) - group.first);
}

// True in the lanes from `from` up to `to`.
template <typename T> auto lanes_between(int64_t from, int64_t to) {
    typename Vector<T>::Lanes lane;
    for (int i = 0; i < Vector<T>::width; i++) lane[i] = i;
    return (lane >= T(from)) & (lane < T(to));
}

// Gathers `size` numbers of every task, each task into its lane.
template <typename T>
void load(const Problem& problem, const Group& group, const T* data, int64_t size, typename Vector<T>::Lanes* out) {
    for (int lane = 0; lane < Vector<T>::width; lane++) {
        const T* task = data + (group.pack * problem.tasks + group.task_in(lane)) * size;
        for (int64_t i = 0; i < size; i++) out[i][lane] = task[i];
    }
}

// What the tasks of a group need, cut from one piece of memory. Of memory that is null, only the size is found.
template <typename Lanes> struct Workspace {
    const Mlp& mlp;
    Lanes* memory;
    int64_t support, size = 0;  // size in vectors
    Lanes *thetas, *passes, *query_pass, *along_pass;
    Lanes *v, *u, *rates, *rate_grads, *support_y, *query_y;

    Workspace(const Problem& problem, const Mlp& mlp, Lanes* memory)
        : mlp(mlp), memory(memory), support(problem.support_shots) {
        const int64_t shots = problem.query_shots, outputs = mlp.layers.back().outputs;
        thetas = take((problem.inner_steps + 1) * mlp.num_params);
        passes = take(problem.inner_steps * mlp.pass_size() * support * mlp.num_units);
        query_pass = take(mlp.pass_size() * shots * mlp.num_units);
        along_pass = take(mlp.pass_size() * support * mlp.num_units);
        v = take(mlp.num_params);
        u = take(mlp.all_adapt && mlp.rates == ONE ? 0 : mlp.num_params);
        rates = take(std::max(mlp.num_rates, int64_t(1)));
        rate_grads = take(mlp.num_rates);
        support_y = take(support * outputs);
        query_y = take(shots * outputs);
    }

    Lanes* parameters(int64_t step) const { return thetas + step * mlp.num_params; }
    Theta<Lanes> theta(int64_t step) const { return {parameters(step), thetas}; }
    Pass<Lanes> support_pass(int64_t step) const {
        return {mlp, support, passes + step * mlp.pass_size() * support * mlp.num_units};
    }

  private:
    Lanes* take(int64_t count) {
        size += count;
        return memory ? memory + size - count : nullptr;
    }
};

// Puts the parameters and the negative rates of a seed into the lanes from `from` on.
template <typename T>
void load_params(const Problem& problem, const Mlp& mlp, int64_t seed, int64_t from, const T* params,
                 typename Vector<T>::Lanes* theta, typename Vector<T>::Lanes* rates) {
    using Lanes = typename Vector<T>::Lanes;
    const T *own = params + seed * mlp.num_learned(), *learned = own + mlp.num_params;
    const auto mask = lanes_between<T>(from, Vector<T>::width);
    for (int64_t i = 0; i < mlp.num_params; i++) theta[i] = mask ? Lanes{} + own[i] : theta[i];
    for (int64_t i = 0; i < mlp.num_rates; i++) rates[i] = mask ? Lanes{} - learned[i] : rates[i];
    if (mlp.rates == ONE) rates[0] = mask ? Lanes{} - T(problem.inner_lr[seed]) : rates[0];
}

// What is differentiated at a meta-step: the query loss after the last inner step, or the sum of those after each of them,
// so weighted; and whether through inner gradients.
struct Objective {
    bool second_order;
    const double* weights;  // of the steps; null for the last alone

    double weight(int64_t step) const { return weights ? weights[step] : 1; }
};

// The query losses of tasks: after the last inner step, and the one that is differentiated.
template <typename Lanes> struct Losses {
    Lanes last, meta;
};

// Computes the tasks of a group; leaves v_0 in room.v, that of rates in room.rate_grads, and returns the query losses.
template <typename T>
Losses<typename Vector<T>::Lanes> compute_group(const Problem& problem, const Mlp& mlp, const Objective& objective,
                                                const Group& group, const Data<T>& data,
                                                const Workspace<typename Vector<T>::Lanes>& room) {
    using Lanes = typename Vector<T>::Lanes;
    Tasks<T> tasks{mlp};
    const int64_t steps = problem.inner_steps;
    const int64_t inputs = mlp.layers.front().inputs, outputs = mlp.layers.back().outputs;
    for_each_seed(problem, group, [&](int64_t seed, int64_t from, int64_t) {
        const bool is_first = seed == group.pack + group.low / problem.tasks;  // idle lanes are of the seed beside them
        load_params(problem, mlp, seed, is_first ? 0 : from, data.params, room.thetas, room.rates);
    });
    load(problem, group, data.support_y, problem.support_shots * outputs, room.support_y);
    load(problem, group, data.query_y, problem.query_shots * outputs, room.query_y);
    const Targets<T> support(room.support_y, problem.support_shots * outputs, problem.has_gaps);
    const Targets<T> wanted(room.query_y, problem.query_shots * outputs, problem.has_gaps);
    const Pass<Lanes> query(mlp, problem.query_shots, room.query_pass);
    const Pass<Lanes> along(mlp, problem.support_shots, room.along_pass);
    load(problem, group, data.query_x, problem.query_shots * inputs, query.values);
    for (int64_t step = 0; step < steps; step++) {
        const Pass<Lanes> pass = room.support_pass(step);
        load(problem, group, data.support_x, problem.support_shots * inputs, pass.values);
        tasks.forward(room.theta(step), pass);
        tasks.backward(room.theta(step), pass, support, true);
        tasks.inner_step(room.parameters(step + 1), room.theta(step), room.rates, step, pass);
    }
    // base + the weighted gradient of the query loss after so many steps; returns the loss.
    auto add_query = [&](Lanes* base, int64_t made) {
        tasks.forward(room.theta(made), query);
        const Lanes loss = tasks.backward(room.theta(made), query, wanted);
        tasks.gradient(room.v, base, T(objective.weight(made - 1)), query);
        return loss;
    };
    Losses<Lanes> losses;
    losses.last = add_query(nullptr, steps);
    losses.meta = T(objective.weight(steps - 1)) * losses.last;
    std::fill_n(room.rate_grads, mlp.num_rates, Lanes{});
    for (int64_t step = steps - 1; step >= 0; step--) {
        tasks.back_through(room.v, room.rate_grads, room.theta(step), room.rates, step, objective.second_order, support,
                           room.support_pass(step), along, room.u);
        if (objective.weights && step && objective.weight(step - 1) > 0) losses.meta += T(objective.weight(step - 1)) * add_query(room.v, step);
    }
    return losses;
}

// The sums over a seed's lanes of a group: of its gradient, (P), and behind that of its two losses.
template <typename T>
void sum_lanes(const Mlp& mlp, int64_t from, int64_t to, const Workspace<typename Vector<T>::Lanes>& room,
               const Losses<typename Vector<T>::Lanes>& losses, T* sums) {
    using Lanes = typename Vector<T>::Lanes;
    constexpr int width = Vector<T>::width;
    const auto mask = lanes_between<T>(from, to);
    auto sum = [&](const Lanes& lanes) {
        const Lanes kept = mask ? lanes : Lanes{};
        return total<width>(reinterpret_cast<const T*>(&kept));
    };
    for (int64_t i = 0; i < mlp.num_params; i++) sums[i] = sum(room.v[i]);
    for (int64_t i = 0; i < mlp.num_rates; i++) sums[mlp.num_params + i] = sum(room.rate_grads[i]);
    sums[mlp.num_learned()] = sum(losses.last);
    sums[mlp.num_learned() + 1] = sum(losses.meta);
}

}  // namespace
