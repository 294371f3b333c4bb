// One update of the meta-parameters of every seed by Adam (Kingma & Ba 2015, arXiv:1412.6980): what
// training.make_update does with torch.optim.Adam.

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <vector>

namespace {

template <typename T> struct Adam {
    int64_t params;
    T new_share1, beta2, new_share2;  // shares of a new gradient: 1 - beta, rounded once
    T epsilon, step_size, root_correction2, max_grad_norm;

    // Returns whether the seed is alive afterwards; one that is not keeps its parameters.
    bool update(bool alive, T loss, T* __restrict theta, T* __restrict grads, T* __restrict exp_avg,
                T* __restrict exp_avg_sq, T* norm) const {
        double square = 0;
        #pragma omp simd reduction(+ : square)
        for (int64_t i = 0; i < params; i++) square += double(grads[i]) * grads[i];
        *norm = std::sqrt(T(square));
        alive = alive && std::isfinite(loss) && std::isfinite(*norm);
        const T factor = std::min(max_grad_norm / (*norm + T(1e-6)), T(1));
        std::vector<T> updated(params);
        T* __restrict next = updated.data();
        for (int64_t i = 0; i < params; i++) {
            grads[i] = alive ? factor * grads[i] : 0;
            exp_avg[i] += new_share1 * (grads[i] - exp_avg[i]);
            exp_avg_sq[i] = beta2 * exp_avg_sq[i] + new_share2 * grads[i] * grads[i];
            next[i] = theta[i] - step_size * exp_avg[i] / (std::sqrt(exp_avg_sq[i]) / root_correction2 + epsilon);
        }
        T out_of_numbers = 0;  // a finite step can lead there; what is not finite less itself is not zero
        #pragma omp simd reduction(+ : out_of_numbers)
        for (int64_t i = 0; i < params; i++) out_of_numbers += next[i] - next[i];
        alive = alive && out_of_numbers == 0;
        if (alive) std::copy_n(next, params, theta);
        return alive;
    }
};

template <typename T>
void adam(int64_t seeds, int64_t params, double step, double lr, double beta1, double beta2, double epsilon,
          double max_grad_norm, const T* losses, T* theta, T* grads, T* exp_avg, T* exp_avg_sq, T* norms, bool* alive,
          int64_t* updates) {
    const Adam<T> optimizer{
        params,
        T(1 - beta1),
        T(beta2),
        T(1 - beta2),
        T(epsilon),
        T(lr / (1 - std::pow(beta1, step))),
        T(std::sqrt(1 - std::pow(beta2, step))),
        T(max_grad_norm),
    };
    for (int64_t seed = 0; seed < seeds; seed++) {
        const int64_t row = seed * params;
        alive[seed] = optimizer.update(alive[seed], losses[seed], theta + row, grads + row, exp_avg + row,
                                       exp_avg_sq + row, norms + seed);
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
