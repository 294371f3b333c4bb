// One update of the meta-parameters of a seed: what training.make_update does with an optimiser of torch.optim. A rule is a
// few lines; around it are clipping and what a seed is guarded by that leaves the numbers.

#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>

// What is known of a block's meta-losses and of the optimiser; library.py has the same fields.
struct Outer {
    const int64_t* second_order;  // of every step
    const double* loss_weights;   // of every step, of the losses after each inner step; null for that after the last
    int64_t rule;                 // one of `Rules`
    double beta1, beta2, epsilon, weight_decay;
    double updates;               // made before
    const double* lr;             // of every step and seed
    const double* max_grad_norm;  // of every seed
};

enum Rules { ADAM, SGD, NONE };  // NONE leaves the gradients as they are, for somebody else to update with

namespace {

// Adam (Kingma & Ba 2015, arXiv:1412.6980), and AdamW (Loshchilov & Hutter 2019, arXiv:1711.05101), which is Adam of
// parameters that are made a little smaller first.
template <typename T> struct Adam {
    T new_share1, beta2, new_share2;  // shares of a new gradient: 1 - beta, rounded once
    T epsilon, step_size, root_correction2;
    T kept;  // of a parameter, before the step

    Adam(const Outer& outer, double updates, double lr)
        : new_share1(1 - outer.beta1), beta2(outer.beta2), new_share2(1 - outer.beta2), epsilon(outer.epsilon),
          step_size(lr / (1 - std::pow(outer.beta1, updates))),
          root_correction2(std::sqrt(1 - std::pow(outer.beta2, updates))), kept(1 - lr * outer.weight_decay) {}

    T operator()(T theta, T grad, T& exp_avg, T& exp_avg_sq) const {
        exp_avg += new_share1 * (grad - exp_avg);
        exp_avg_sq = beta2 * exp_avg_sq + new_share2 * grad * grad;
        return kept * theta - step_size * exp_avg / (std::sqrt(exp_avg_sq) / root_correction2 + epsilon);
    }
};

// Gradient descent, with what is kept of the last step's direction; that is zero without momentum.
template <typename T> struct Sgd {
    T lr, kept;

    T operator()(T theta, T grad, T& velocity, T&) const {
        velocity = kept * velocity + grad;
        return theta - lr * velocity;
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
// parameters, then and later, and its gradient counts as zero. `next` is room for the updated parameters.
template <typename T, typename Rule>
bool guarded_update(const Rule& rule, bool alive, T loss, T max_norm, int64_t params, T* __restrict theta, T* __restrict grads,
                    T* __restrict moments1, T* __restrict moments2, T* __restrict next, T* norm) {
    *norm = norm_of(grads, params);
    alive = alive && std::isfinite(loss) && std::isfinite(*norm);
    const T factor = clip_factor(*norm, max_norm);
    for (int64_t i = 0; i < params; i++) {
        grads[i] = alive ? factor * grads[i] : 0;
        next[i] = rule(theta[i], grads[i], moments1[i], moments2[i]);
    }
    alive = alive && all_finite(next, params);  // a finite step can lead out of the numbers
    if (alive) std::copy_n(next, params, theta);
    return alive;
}

}  // namespace
