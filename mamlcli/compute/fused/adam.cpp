// One update of the meta-parameters of every seed by Adam (Kingma & Ba 2015, arXiv:1412.6980): what
// training.make_update does with torch.optim.Adam.

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <vector>

namespace {

// The rule alone: what one update makes of gradients.
template <typename T> struct Adam {
    T new_share1, beta2, new_share2;  // shares of a new gradient: 1 - beta, rounded once
    T epsilon, step_size, root_correction2;

    void operator()(int64_t params, const T* __restrict theta, const T* __restrict grads, T* __restrict exp_avg,
                    T* __restrict exp_avg_sq, T* __restrict next) const {
        for (int64_t i = 0; i < params; i++) {
            exp_avg[i] += new_share1 * (grads[i] - exp_avg[i]);
            exp_avg_sq[i] = beta2 * exp_avg_sq[i] + new_share2 * grads[i] * grads[i];
            next[i] = theta[i] - step_size * exp_avg[i] / (std::sqrt(exp_avg_sq[i]) / root_correction2 + epsilon);
        }
    }
};

// Scales the gradient of one seed to a norm of at most `max_norm`; that of a seed that is not alive becomes zero.
template <typename T>
bool clip(bool alive, T loss, T max_norm, int64_t params, T* __restrict grads, T* norm) {
    double square = 0;
    #pragma omp simd reduction(+ : square)
    for (int64_t i = 0; i < params; i++) square += double(grads[i]) * grads[i];
    *norm = std::sqrt(T(square));
    alive = alive && std::isfinite(loss) && std::isfinite(*norm);
    const T factor = std::min(max_norm / (*norm + T(1e-6)), T(1));
    for (int64_t i = 0; i < params; i++) grads[i] = alive ? factor * grads[i] : 0;
    return alive;
}

// Whether all numbers are finite; what is not, less itself, is not zero.
template <typename T> bool all_finite(const T* __restrict values, int64_t count) {
    T out_of_numbers = 0;
    #pragma omp simd reduction(+ : out_of_numbers)
    for (int64_t i = 0; i < count; i++) out_of_numbers += values[i] - values[i];
    return out_of_numbers == 0;
}

// One update of one seed by any rule, which writes the parameters after it. Returns whether the seed is
// alive afterwards: one whose loss, gradient or updated parameters are not finite keeps its parameters, then and later.
template <typename T, typename Rule>
bool guarded_update(bool alive, T loss, T max_norm, int64_t params, T* theta, T* grads, T* norm, const Rule& rule) {
    alive = clip(alive, loss, max_norm, params, grads, norm);
    std::vector<T> next(params);
    rule(next.data());
    alive = alive && all_finite(next.data(), params);  // a finite step can lead out of the numbers
    if (alive) std::copy_n(next.data(), params, theta);
    return alive;
}

template <typename T>
void adam(int64_t seeds, int64_t params, double step, double lr, double beta1, double beta2, double epsilon,
          double max_grad_norm, const T* losses, T* theta, T* grads, T* exp_avg, T* exp_avg_sq, T* norms, bool* alive,
          int64_t* updates) {
    const Adam<T> rule{
        T(1 - beta1),
        T(beta2),
        T(1 - beta2),
        T(epsilon),
        T(lr / (1 - std::pow(beta1, step))),
        T(std::sqrt(1 - std::pow(beta2, step))),
    };
    for (int64_t seed = 0; seed < seeds; seed++) {
        const int64_t row = seed * params;
        alive[seed] = guarded_update(
            alive[seed], losses[seed], T(max_grad_norm), params, theta + row, grads + row, norms + seed,
            [&](T* next) { rule(params, theta + row, grads + row, exp_avg + row, exp_avg_sq + row, next); });
        updates[seed] += alive[seed];
    }
}

}  // namespace

extern "C" {

void adam_float(int64_t seeds, int64_t params, double step, double lr, double beta1, double beta2, double epsilon,
                double max_grad_norm, const float* losses, float* theta, float* grads, float* exp_avg,
                float* exp_avg_sq, float* norms, bool* alive, int64_t* updates) {
    adam(seeds, params, step, lr, beta1, beta2, epsilon, max_grad_norm, losses, theta, grads, exp_avg, exp_avg_sq,
         norms, alive, updates);
}

void adam_double(int64_t seeds, int64_t params, double step, double lr, double beta1, double beta2, double epsilon,
                 double max_grad_norm, const double* losses, double* theta, double* grads, double* exp_avg,
                 double* exp_avg_sq, double* norms, bool* alive, int64_t* updates) {
    adam(seeds, params, step, lr, beta1, beta2, epsilon, max_grad_norm, losses, theta, grads, exp_avg, exp_avg_sq,
         norms, alive, updates);
}

}
