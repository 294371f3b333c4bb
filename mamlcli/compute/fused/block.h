// A block of meta-steps of every seed: gradients of all tasks, and an update with their mean.
//
// Seeds know nothing of each other. So a thread takes some of them through the whole block, and meets no other thread
// before its end: where the system has put one aside, the others go on. The threads of a single seed share the groups of
// each step, and wait for each other once in it: the last of them sums up, in the same order whoever they are.

#pragma once

#include "groups.h"
#include "outer.h"
#include "threads.h"

namespace {

// What changes along a block: all pointers are to the first step's or the first seed's.
template <typename T> struct State {
    T *params, *grads, *moments1, *moments2;   // (S, P)
    T *losses, *meta_losses, *norms;           // (steps, S)
    bool* alive;                               // (S)
    int64_t* updates;                          // (S)
};

// Seeds from one up to another.
struct Range {
    int64_t begin, end;
};

template <typename T> class Block {
  public:
    using Lanes = typename Vector<T>::Lanes;

    Block(const Problem& problem, const Outer& outer, const Data<T>& data, const State<T>& state)
        : problem(problem), outer(outer), data(data), state(state), mlp(problem) {}

    // Bytes that threads need to take seeds through steps.
    static int64_t bytes(const Problem& problem, Range seeds, int64_t threads) {
        const Mlp mlp(problem);
        const int64_t slots = threads > 1 && seeds.end - seeds.begin == 1 ? slots_of_round(problem, seeds) : 0;
        return threads * Room(problem, mlp, nullptr).size * LANES_BYTES + slots * numbers_of(mlp) * sizeof(T);
    }

    // Takes the seeds of a range through all steps; of the others it touches nothing.
    void run(Range seeds, int64_t steps, int64_t threads, void* memory) const {
        const int64_t count = seeds.end - seeds.begin, size = Room(problem, mlp, nullptr).size;
        Lanes* const rooms = static_cast<Lanes*>(memory);
        auto room_of = [&](int64_t thread) { return Room(problem, mlp, rooms + thread * size); };
        if (count == 1 && threads > 1) {
            share(seeds, steps, threads, room_of, reinterpret_cast<T*>(rooms + threads * size));
            return;
        }
        const int64_t parts = std::min(threads, count);
        on_threads(parts, [&](int64_t part) {
            const Range own = {seeds.begin + part * count / parts, seeds.begin + (part + 1) * count / parts};
            const Room room = room_of(part);
            for (int64_t step = 0; step < steps; step++) {
                add_gradients(step, own, room);
                update(step, own, room);
            }
        });
    }

  private:
    static constexpr int64_t parts_of_round = 32;

    const Problem& problem;
    const Outer& outer;
    const Data<T>& data;
    const State<T>& state;
    const Mlp mlp;

    // Numbers that are summed over a seed's tasks: its gradient and two losses.
    static int64_t numbers_of(const Mlp& mlp) { return mlp.num_learned() + 2; }

    // How many seeds can have tasks in a part.
    static int64_t seeds_of_part(const Problem& problem) {
        const int64_t lanes = Parts::groups_of_part * Vector<T>::width;
        return std::min(problem.seeds, (lanes + problem.tasks - 1) / problem.tasks + 1);
    }

    static Parts parts_of(const Problem& problem, Range seeds) {
        return Parts(problem.tasks, Vector<T>::width, seeds.begin, seeds.end, problem.seeds_before);
    }

    // Groups that threads share at a time, each of which has a place for its sums.
    static int64_t slots_of_round(const Problem& problem, Range seeds) {
        return Parts::groups_of_part * std::min(parts_of(problem, seeds).size(), parts_of_round);
    }

    // What a thread needs: for a group, for the sums of its lanes, and for those of a part's seeds. Of memory that is
    // null, only the size is found.
    struct Room {
        Workspace<Lanes> group;
        int64_t numbers, size;  // size in vectors
        T *lanes, *sums;

        Room(const Problem& problem, const Mlp& mlp, Lanes* memory) : group(problem, mlp, memory), numbers(numbers_of(mlp)) {
            const int64_t width = Vector<T>::width;
            size = group.size + ((1 + seeds_of_part(problem)) * numbers + width - 1) / width;
            lanes = memory ? reinterpret_cast<T*>(memory + group.size) : nullptr;
            sums = memory ? lanes + numbers : nullptr;
        }
    };

    Data<T> data_of(int64_t step) const {
        const int64_t tasks = step * problem.seeds * problem.tasks;
        const int64_t inputs = mlp.layers.front().inputs, outputs = mlp.layers.back().outputs;
        const int64_t support = tasks * problem.support_shots, query = tasks * problem.query_shots;
        return {data.params, data.support_x + support * inputs, data.support_y + support * outputs,
                data.query_x + query * inputs, data.query_y + query * outputs};
    }

    Objective objective_of(int64_t step) const {
        const double* weights = outer.loss_weights;
        return {bool(outer.second_order[step]), weights ? weights + step * problem.inner_steps : nullptr};
    }

    // The meta-gradients and losses of seeds at a step.
    void add_gradients(int64_t step, Range seeds, const Room& room) const {
        clear(step, seeds);
        const Parts parts = parts_of(problem, seeds);
        for (int64_t index = 0; index < parts.size(); index++) {
            const Part part = parts[index];
            int64_t first = -1, end = 0;
            auto sums_of = [&](int64_t seed) { return room.sums + (seed - first) * room.numbers; };
            for (int64_t at = part.begin; at < part.end; at++) {
                const Losses<Lanes> losses = compute(step, part[at], room);
                for_each_seed(problem, part[at], [&](int64_t seed, int64_t from, int64_t to) {
                    if (first < 0) first = end = seed;
                    for (; end <= seed; end++) std::fill_n(sums_of(end), room.numbers, T(0));
                    sum_lanes<T>(mlp, from, to, room.group, losses, room.lanes);
                    add_mean(room.lanes, sums_of(seed));
                });
            }
            for (int64_t seed = first; seed < end; seed++) add_part(step, seed, sums_of(seed));
        }
    }

    // Takes one seed through all steps, of which threads share the groups.
    template <typename RoomOf>
    void share(Range seeds, int64_t steps, int64_t threads, RoomOf room_of, T* slots) const {
        const Parts parts = parts_of(problem, seeds);
        const int64_t count = slots_of_round(problem, seeds), of_part = Parts::groups_of_part, numbers = numbers_of(mlp);
        const int64_t rounds = (parts.size() * of_part + count - 1) / count;  // of a step
        auto begin_of = [&](int64_t round) { return round % rounds * count / of_part; };
        Rounds shared(steps * rounds, count);
        on_threads(threads, [&](int64_t thread) {
            const Room room = room_of(thread);
            auto sum_group = [&](int64_t round, int64_t slot) {
                const int64_t index = begin_of(round) + slot / of_part;
                if (index >= parts.size() || parts[index].begin + slot % of_part >= parts[index].end) return;
                const Group group = parts[index][parts[index].begin + slot % of_part];
                const Losses<Lanes> losses = compute(round / rounds, group, room);
                for_each_seed(problem, group, [&](int64_t, int64_t from, int64_t to) {
                    sum_lanes<T>(mlp, from, to, room.group, losses, slots + slot * numbers);
                });
            };
            auto close = [&](int64_t round) {
                const int64_t step = round / rounds, end = std::min(begin_of(round) + count / of_part, parts.size());
                if (round % rounds == 0) clear(step, seeds);
                for (int64_t index = begin_of(round); index < end; index++) {
                    const T* sums = slots + (index - begin_of(round)) * of_part * numbers;
                    std::fill_n(room.sums, numbers, T(0));
                    for (int64_t at = parts[index].begin; at < parts[index].end; at++, sums += numbers) add_mean(sums, room.sums);
                    add_part(step, seeds.begin, room.sums);
                }
                if (end == parts.size()) update(step, seeds, room);
            };
            shared.take_part(sum_group, close);
        });
    }

    Losses<Lanes> compute(int64_t step, const Group& group, const Room& room) const {
        return compute_group(problem, mlp, objective_of(step), group, data_of(step), room.group);
    }

    // Adds the sums of a group to those of its part, as parts of a mean.
    void add_mean(const T* group, T* sums) const {
        const T share = T(1) / problem.tasks;
        for (int64_t i = 0; i < numbers_of(mlp); i++) sums[i] += share * group[i];
    }

    void add_part(int64_t step, int64_t seed, const T* sums) const {
        const int64_t count = mlp.num_learned(), at = step * problem.seeds + seed;
        T* grads = state.grads + seed * count;
        for (int64_t i = 0; i < count; i++) grads[i] += sums[i];
        state.losses[at] += sums[count];
        state.meta_losses[at] += sums[count + 1];
    }

    void clear(int64_t step, Range seeds) const {
        auto zero = [&](T* values, int64_t size) { std::fill(values + seeds.begin * size, values + seeds.end * size, T(0)); };
        zero(state.grads, mlp.num_learned());
        zero(state.losses + step * problem.seeds, 1);
        zero(state.meta_losses + step * problem.seeds, 1);
    }

    // Updates seeds with the gradients of a step.
    void update(int64_t step, Range seeds, const Room& room) const {
        if (outer.rule == NONE) return;
        for (int64_t seed = seeds.begin; seed < seeds.end; seed++) {
            const int64_t at = step * problem.seeds + seed;
            T* next = reinterpret_cast<T*>(room.group.memory);
            state.alive[seed] = outer.rule == SGD ? updated(Sgd<T>{T(outer.lr[at]), T(outer.beta1)}, seed, at, next)
                                : updated(Adam<T>(outer, outer.updates + step + 1, outer.lr[at]), seed, at, next);
            state.updates[seed] += state.alive[seed];
        }
    }

    template <typename Rule> bool updated(const Rule& rule, int64_t seed, int64_t at, T* next) const {
        const int64_t row = seed * mlp.num_learned();
        return guarded_update(rule, state.alive[seed], state.losses[at], T(outer.max_grad_norm[seed]),
                              mlp.num_learned(), state.params + row, state.grads + row, state.moments1 + row,
                              state.moments2 + row, next, state.norms + at);
    }
};

}  // namespace
