// One update of the meta-parameters of every seed by Adam (Kingma & Ba 2015, arXiv:1412.6980): what
// training.make_update does with torch.optim.Adam.

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <vector>

namespace {

// The rule alone: what one update makes of a parameter and its gradient.
template <typename T> struct Adam {
    T new_share1, beta2, new_share2;  // shares of a new gradient: 1 - beta, rounded once
    T epsilon, step_size, root_correction2;

    T operator()(T theta, T grad, T& exp_avg, T& exp_avg_sq) const {
        exp_avg += new_share1 * (grad - exp_avg);
        exp_avg_sq = beta2 * exp_avg_sq + new_share2 * grad * grad;
        return theta - step_size * exp_avg / (std::sqrt(exp_avg_sq) / root_correction2 + epsilon);
    }
};

template <typename T> T norm_of(const T* __restrict values, int64_t count) {
    double square = 0;
    #pragma omp simd reduction(+ : square)
    for (int64_t i = 0; i < count; i++) square += double(values[i]) * values[i];
    return std::sqrt(T(square));
}

// What scales a gradient to a norm of at most `max_norm`.
template <typename T> T clip_factor(T norm, T max_norm) { return std::min(max_norm / (norm + T(1e-6)), T(1)); }

// Whether all numbers are finite; what is not, less itself, is not zero.
template <typename T> bool all_finite(const T* __restrict values, int64_t count) {
    T out_of_numbers = 0;
    #pragma omp simd reduction(+ : out_of_numbers)
    for (int64_t i = 0; i < count; i++) out_of_numbers += values[i] - values[i];
    return out_of_numbers == 0;
}

// One update of one seed by any rule of two moments, in one loop, since that is what the compiler makes vectors of.
// Returns whether the seed is alive afterwards: one whose loss, gradient or updated parameters are not finite keeps its
// parameters, then and later, and its gradient counts as zero.
template <typename T, typename Rule>
bool guarded_update(Rule rule, bool alive, T loss, T max_norm, int64_t params, T* __restrict theta, T* __restrict grads,
                    T* __restrict moments1, T* __restrict moments2, T* norm) {
    *norm = norm_of(grads, params);
    alive = alive && std::isfinite(loss) && std::isfinite(*norm);
    const T factor = clip_factor(*norm, max_norm);
    std::vector<T> updated(params);
    T* __restrict next = updated.data();
    for (int64_t i = 0; i < params; i++) {
        grads[i] = alive ? factor * grads[i] : 0;
        next[i] = rule(theta[i], grads[i], moments1[i], moments2[i]);
    }
    alive = alive && all_finite(next, params);  // a finite step can lead out of the numbers
    if (alive) std::copy_n(next, params, theta);
    return alive;
}

template <typename T>
void adam(int64_t seeds, int64_t params, double step, double beta1, double beta2, double epsilon, const double* lr,
          const double* max_grad_norm, const T* losses, T* theta, T* grads, T* exp_avg, T* exp_avg_sq, T* norms,
          bool* alive, int64_t* updates) {
    const double correction1 = 1 - std::pow(beta1, step);
    Adam<T> rule{
        T(1 - beta1), T(beta2), T(1 - beta2), T(epsilon), T(0), T(std::sqrt(1 - std::pow(beta2, step))),
    };
    for (int64_t seed = 0; seed < seeds; seed++) {
        const int64_t row = seed * params;
        rule.step_size = T(lr[seed] / correction1);
        alive[seed] = guarded_update(rule, alive[seed], losses[seed], T(max_grad_norm[seed]), params, theta + row,
                                     grads + row, exp_avg + row, exp_avg_sq + row, norms + seed);
        updates[seed] += alive[seed];
    }
}

}  // namespace

extern "C" {

// One update of S seeds with P parameters each, with a learning rate and a bound of the gradient's norm for each seed.
void adam_float(int64_t seeds, int64_t params, double step, double beta1, double beta2, double epsilon,
                const double* lr, const double* max_grad_norm, const float* losses, float* theta, float* grads,
                float* exp_avg, float* exp_avg_sq, float* norms, bool* alive, int64_t* updates) {
    adam(seeds, params, step, beta1, beta2, epsilon, lr, max_grad_norm, losses, theta, grads, exp_avg, exp_avg_sq,
         norms, alive, updates);
}

void adam_double(int64_t seeds, int64_t params, double step, double beta1, double beta2, double epsilon,
                 const double* lr, const double* max_grad_norm, const double* losses, double* theta, double* grads,
                 double* exp_avg, double* exp_avg_sq, double* norms, bool* alive, int64_t* updates) {
    adam(seeds, params, step, beta1, beta2, epsilon, lr, max_grad_norm, losses, theta, grads, exp_avg, exp_avg_sq,
         norms, alive, updates);
}

}
