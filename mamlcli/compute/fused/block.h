// A block of meta-steps of every seed: gradients of all tasks, and an update with their mean.
//
// Seeds know nothing of each other. So a thread takes some of them through the whole block, and meets no other thread
// before its end: where the system has put one aside, the others go on. The threads of a single seed share the tasks of
// each step, and wait for each other once in it. What waits sleeps.

#pragma once

#include <atomic>

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

    // What a thread needs, in vectors: for a group, for the sums of a part's seeds, and for an update.
    static int64_t room_size(const Problem& problem) {
        const Mlp mlp(problem);
        const int64_t numbers = (seeds_of_part(problem) + 1) * numbers_of(mlp), width = Vector<T>::width;
        return Workspace<Lanes>(problem, mlp, nullptr).size + (numbers + width - 1) / width;
    }

    // Takes the seeds of a range through all steps; of the others it touches nothing.
    void run(Range seeds, int64_t steps, int64_t threads, void* memory) const {
        const int64_t size = room_size(problem), count = seeds.end - seeds.begin;
        auto room_of = [&](int64_t thread) { return static_cast<Lanes*>(memory) + thread * size; };
        if (count == 1) {
            for (int64_t step = 0; step < steps; step++) {
                add_gradients(step, seeds.begin, seeds.end, threads, room_of);
                update(step, seeds.begin, seeds.end, room_of(0));
            }
            return;
        }
        const int64_t parts = std::min(threads, count);
        on_threads(parts, [&](int64_t part) {
            const int64_t begin = seeds.begin + part * count / parts, end = seeds.begin + (part + 1) * count / parts;
            for (int64_t step = 0; step < steps; step++) {
                add_gradients(step, begin, end, 1, [&](int64_t) { return room_of(part); });
                update(step, begin, end, room_of(part));
            }
        });
    }

  private:
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

    // The meta-gradients and losses of seeds at a step, by threads that share their parts.
    template <typename RoomOf>
    void add_gradients(int64_t step, int64_t begin, int64_t end, int64_t threads, RoomOf room_of) const {
        const Data<T> now = data_of(step);
        const Parts parts(problem.tasks, Vector<T>::width, begin, end, problem.seeds_before);
        T *losses = state.losses + step * problem.seeds, *meta_losses = state.meta_losses + step * problem.seeds;
        std::fill(state.grads + begin * mlp.num_learned(), state.grads + end * mlp.num_learned(), T(0));
        std::fill(losses + begin, losses + end, T(0));
        std::fill(meta_losses + begin, meta_losses + end, T(0));
        std::atomic<int64_t> next{0};
        Turns turns;
        on_threads(std::min(threads, parts.size()), [&](int64_t thread) {
            for (int64_t part = next++; part < parts.size(); part = next++) {
                const Sums sums = summed(objective_of(step), now, parts[part], room_of(thread));
                auto add = [&] {
                    for (int64_t seed = sums.begin; seed < sums.end; seed++) {
                        const T* own = sums.of(seed);
                        T* grads = state.grads + seed * mlp.num_learned();
                        for (int64_t i = 0; i < mlp.num_learned(); i++) grads[i] += own[i];
                        losses[seed] += own[mlp.num_learned()];
                        meta_losses[seed] += own[mlp.num_learned() + 1];
                    }
                };
                if (threads == 1) add();
                else turns.in_turn(part, add);
            }
        });
    }

    // Gradients and losses of seeds, one after the other.
    struct Sums {
        T* values;
        int64_t numbers, begin, end;

        T* of(int64_t seed) const { return values + (seed - begin) * numbers; }
    };

    // Those of a part.
    Sums summed(const Objective& objective, const Data<T>& now, const Part& part, Lanes* memory) const {
        const Workspace<Lanes> room(problem, mlp, memory);
        Sums sums{reinterpret_cast<T*>(memory + room.size), numbers_of(mlp), -1, 0};
        for (int64_t index = part.begin; index < part.end; index++) {
            const Group group = part[index];
            const Losses<Lanes> losses = compute_group(problem, mlp, objective, group, now, room);
            for_each_seed(problem, group, [&](int64_t seed, int64_t from, int64_t to) {
                if (sums.begin < 0) sums.begin = sums.end = seed;
                T* own = sums.of(seed);
                for (; sums.end <= seed; sums.end++) std::fill_n(own, sums.numbers, T(0));
                add_lanes<T>(problem, mlp, from, to, room, losses, own);
            });
        }
        return sums;
    }

    // Updates seeds with the gradients of a step.
    void update(int64_t step, int64_t begin, int64_t end, Lanes* memory) const {
        if (outer.rule == NONE) return;
        for (int64_t seed = begin; seed < end; seed++) {
            const int64_t at = step * problem.seeds + seed;
            T* next = reinterpret_cast<T*>(memory);
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
