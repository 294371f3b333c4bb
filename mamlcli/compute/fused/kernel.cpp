// What the library offers, for float and double: see block.h and measure.h.

#include "block.h"
#include "measure.h"

extern "C" {

// What one thread needs, in float and in double.
int64_t workspace_bytes_float(const Problem* problem) { return Block<float>::room_size(*problem) * LANES_BYTES; }
int64_t workspace_bytes_double(const Problem* problem) { return Block<double>::room_size(*problem) * LANES_BYTES; }

// Makes `steps` meta-updates of S seeds with P parameters each, on tasks that lie step by step: support x
// (steps, S, B, K, inputs) and so on. Changes the state, and writes losses and norms, (steps, S).
void train_float(const Problem* problem, const Outer* outer, int64_t steps, int64_t threads, void* workspace,
                 const float* support_x, const float* support_y, const float* query_x, const float* query_y,
                 float* params, float* grads, float* exp_avg, float* exp_avg_sq, float* losses, float* norms,
                 bool* alive, int64_t* updates) {
    const Data<float> data{params, support_x, support_y, query_x, query_y};
    const State<float> state{params, grads, exp_avg, exp_avg_sq, losses, norms, alive, updates};
    Block<float>(*problem, *outer, data, state).run(steps, threads, workspace);
}

void train_double(const Problem* problem, const Outer* outer, int64_t steps, int64_t threads, void* workspace,
                  const double* support_x, const double* support_y, const double* query_x, const double* query_y,
                  double* params, double* grads, double* exp_avg, double* exp_avg_sq, double* losses, double* norms,
                  bool* alive, int64_t* updates) {
    const Data<double> data{params, support_x, support_y, query_x, query_y};
    const State<double> state{params, grads, exp_avg, exp_avg_sq, losses, norms, alive, updates};
    Block<double>(*problem, *outer, data, state).run(steps, threads, workspace);
}

// What one thread needs for a meta-test.
int64_t test_bytes_float(const Problem* problem) { return Measure<float>::room_size(*problem) * LANES_BYTES; }
int64_t test_bytes_double(const Problem* problem) { return Measure<double>::room_size(*problem) * LANES_BYTES; }

// Writes the query losses of S seeds on B tasks, which are the same for all seeds, after every inner step:
// (S, B, steps + 1).
void test_float(const Problem* problem, int64_t threads, void* workspace, const float* params, const float* support_x,
                const float* support_y, const float* query_x, const float* query_y, float* losses) {
    const Data<float> data{params, support_x, support_y, query_x, query_y};
    Measure<float>(*problem, data, losses).run(threads, workspace);
}

void test_double(const Problem* problem, int64_t threads, void* workspace, const double* params,
                 const double* support_x, const double* support_y, const double* query_x, const double* query_y,
                 double* losses) {
    const Data<double> data{params, support_x, support_y, query_x, query_y};
    Measure<double>(*problem, data, losses).run(threads, workspace);
}

}
