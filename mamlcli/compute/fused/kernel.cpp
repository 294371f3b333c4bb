// What the library offers, of float and of double: see block.h and measure.h.

#include "block.h"
#include "measure.h"

// By type: how many bytes threads need; meta-updates of S seeds, on tasks that lie step by step, support x
// (steps, S, B, K, inputs) and so on; and query losses of S seeds on B tasks, which are the same for all seeds, after every
// inner step, (S, B, steps + 1).
#define OFFER(T)                                                                                                      \
    int64_t train_bytes_##T(const Problem* problem, const Range* seeds, int64_t threads) {                            \
        return Block<T>::bytes(*problem, *seeds, threads);                                                            \
    }                                                                                                                 \
    void train_##T(const Problem* problem, const Outer* outer, const Range* seeds, int64_t steps, int64_t threads,    \
                   void* workspace, const Data<T>* data, const State<T>* state) {                                     \
        Block<T>(*problem, *outer, *data, *state).run(*seeds, steps, threads, workspace);                             \
    }                                                                                                                 \
    int64_t test_bytes_##T(const Problem* problem) { return Measure<T>::room_size(*problem) * LANES_BYTES; }          \
    void test_##T(const Problem* problem, int64_t threads, void* workspace, const Data<T>* data, T* losses) {         \
        Measure<T>(*problem, *data, losses).run(threads, workspace);                                                  \
    }

extern "C" {
OFFER(float)
OFFER(double)
}
