// The meta-test: query losses of tasks as they adapt. Nothing is differentiated through, so that weights are overwritten
// at every inner step, and query samples pass a few at a time.

#pragma once

#include <atomic>

#include "groups.h"
#include "threads.h"

namespace {

template <typename T> class Measure {
  public:
    using Lanes = typename Vector<T>::Lanes;

    // Tasks are the same for all seeds: data.params is of S seeds, the rest of B tasks. Losses are (S, B, steps + 1).
    Measure(const Problem& problem, const Data<T>& data, T* losses)
        : problem(problem), data(data), losses(losses), mlp(problem) {}

    // What a thread needs, in vectors.
    static int64_t room_size(const Problem& problem) { return Room(problem, Mlp(problem), nullptr).size; }

    void run(int64_t threads, void* memory) const {
        const int64_t width = Vector<T>::width, groups = (problem.tasks + width - 1) / width;
        std::atomic<int64_t> next{0};
        on_threads(std::min(threads, problem.seeds * groups), [&](int64_t thread) {
            const Room room(problem, mlp, static_cast<Lanes*>(memory) + thread * room_size(problem));
            for (int64_t index = next++; index < problem.seeds * groups; index = next++) {
                const int64_t first = index % groups * width;
                measure(index / groups, {0, first, first, std::min(first + width, problem.tasks)}, room);
            }
        });
    }

  private:
    const Problem& problem;
    const Data<T>& data;
    T* losses;
    const Mlp mlp;

    static constexpr int64_t query_at_a_time = 10;

    // What the tasks of a group need, cut from one piece of memory. Of memory that is null, only the size is found.
    struct Room {
        int64_t size = 0;  // in vectors
        Lanes *theta, *rates, *support_y, *query_x, *query_y, *values, *query_values;

        Room(const Problem& problem, const Mlp& mlp, Lanes* memory) {
            auto take = [&](int64_t count) {
                size += count;
                return memory ? memory + size - count : nullptr;
            };
            const int64_t inputs = mlp.layers.front().inputs, outputs = mlp.layers.back().outputs;
            theta = take(mlp.num_params);
            rates = take(std::max(mlp.num_rates, int64_t(1)));
            support_y = take(problem.support_shots * outputs);
            query_x = take(problem.query_shots * inputs);
            query_y = take(problem.query_shots * outputs);
            values = take(mlp.pass_size() * problem.support_shots * mlp.num_units);
            query_values = take(mlp.pass_size() * query_at_a_time * mlp.num_units);
        }
    };

    // The losses of one seed on the tasks of a group.
    void measure(int64_t seed, const Group& group, const Room& room) const {
        Tasks<T> tasks{mlp};
        const int64_t inputs = mlp.layers.front().inputs, outputs = mlp.layers.back().outputs;
        const int64_t shots = problem.support_shots, steps = problem.inner_steps;
        load_params(problem, mlp, seed, 0, data.params, room.theta, room.rates);
        const Theta<Lanes> theta{room.theta, room.theta};
        load(problem, group, data.support_y, shots * outputs, room.support_y);
        load(problem, group, data.query_x, problem.query_shots * inputs, room.query_x);
        load(problem, group, data.query_y, problem.query_shots * outputs, room.query_y);
        const Pass<Lanes> pass(mlp, shots, room.values);
        load(problem, group, data.support_x, shots * inputs, pass.values);
        const Targets<T> support(room.support_y, shots * outputs, problem.has_gaps);
        for (int64_t step = 0; step <= steps; step++) {
            const Lanes found = query_loss(tasks, room);
            for (int64_t task = group.low; task < group.high; task++)
                losses[(seed * problem.tasks + task) * (steps + 1) + step] = found[task - group.first];
            if (step == steps) break;
            tasks.forward(theta, pass);
            tasks.backward(theta, pass, support, true);
            tasks.inner_step(room.theta, theta, room.rates, step, pass);
        }
    }

    // The mean squared error on query samples.
    Lanes query_loss(Tasks<T>& tasks, const Room& room) const {
        const int64_t inputs = mlp.layers.front().inputs, outputs = mlp.layers.back().outputs;
        const Targets<T> wanted(room.query_y, problem.query_shots * outputs, problem.has_gaps);
        Lanes sum = {};
        for (int64_t first = 0; first < problem.query_shots; first += query_at_a_time) {
            const int64_t shots = std::min(query_at_a_time, problem.query_shots - first);
            const Pass<Lanes> pass(mlp, shots, room.query_values);
            std::copy_n(room.query_x + first * inputs, shots * inputs, pass.values);
            tasks.forward({room.theta, room.theta}, pass, false);
            int64_t i = first * outputs;
            for (Lanes output : pass.outputs(mlp.layers.back())) {
                const Lanes error = wanted.error(i++, output);
                sum += error * error;
            }
        }
        return sum / wanted.count;
    }
};

}  // namespace
