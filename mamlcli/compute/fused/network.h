// Inner steps of networks under squared error, and the way back through them: the numbers of methods/maml.py.
//
// Inner steps lead from theta_0 to theta_n (Finn et al. 2017, arXiv:1703.03400, Algorithm 1),
//
//     theta_(j+1) = theta_j - r_j * grad L_support(theta_j),
//
// with a rate r for each parameter: the same for all, or learned (Li et al. 2017, arXiv:1707.09835), or zero where a layer
// does not adapt (Raghu et al. 2020, arXiv:1909.09157; Oh et al. 2021, arXiv:2008.08882). Back from there,
//
//     v_n = grad L_query(theta_n),    v_j = v_(j+1) - H_support(theta_j) (r_j * v_(j+1)),
//
// and v_0 is the task's meta-gradient; to first order it is v_n. That of the rates is -v_(j+1) * grad L_support(theta_j).
// Where the losses after earlier steps count too (Antoniou et al. 2019, arXiv:1810.09502), v_j gains w_j grad L_query(theta_j).
// H u is the derivative of the gradient along u, found by differentiating both of its passes in that direction
// (Pearlmutter 1994, Fast exact multiplication by the Hessian).

#pragma once

#include <algorithm>
#include <vector>

#include "activations.h"

// What a caller knows of the experiment; library.py has the same fields.
struct Problem {
    int64_t seeds, tasks, support_shots, query_shots, inner_steps;
    int64_t has_gaps;      // whether targets may be missing, as NaN, of which tasks are made equally long
    int64_t seeds_before;  // how many stand before these in a stack of which they are a piece: see `Group`
    int64_t num_sizes;
    const int64_t* sizes;                   // units of every layer, input and output included
    int64_t activation;                     // an `Activation`
    int64_t first_adapting, last_adapting;  // the layers that adapt: from the first up to, and without, the last
    int64_t rates, rate_steps;              // a kind of `Rates`; the steps that have learned rates of their own
    const double* inner_lr;                 // of every seed, where they are not learned
};

// What has a rate of its own. Learned rates stand behind the parameters of a seed, in the same order.
enum Rates { ONE, TENSOR, TENSOR_AND_STEP, PARAMETER };

namespace {

struct Layer {
    int64_t inputs, outputs;
    int64_t weight, bias;  // where they are among the parameters of a task
    int64_t units;         // how many units come before its inputs
    bool first, last;
    bool adapts, follows;  // whether it adapts; whether one before it does
    int64_t tensors;       // how many tensors before its own adapt
};

struct Mlp {
    std::vector<Layer> layers;
    int64_t num_params = 0, num_units = 0;
    Activation activation;
    Rates rates;
    int64_t rate_steps, first_rate = 0, num_rates = 0;  // the first parameter that adapts; numbers that are learned
    bool all_adapt = true;

    explicit Mlp(const Problem& problem)
        : activation(Activation(problem.activation)), rates(Rates(problem.rates)), rate_steps(problem.rate_steps) {
        int64_t moving = 0;
        for (int64_t l = 0; l + 1 < problem.num_sizes; l++) {
            const int64_t inputs = problem.sizes[l], outputs = problem.sizes[l + 1];
            const bool adapts = problem.first_adapting <= l && l < problem.last_adapting;
            if (l == problem.first_adapting) first_rate = num_params;
            layers.push_back({inputs, outputs, num_params, num_params + inputs * outputs, num_units, l == 0,
                              l + 2 == problem.num_sizes, adapts, l > problem.first_adapting,
                              2 * std::max(l - problem.first_adapting, int64_t(0))});
            num_params += (inputs + 1) * outputs;
            num_units += inputs;
            if (adapts) moving += (inputs + 1) * outputs;
            all_adapt = all_adapt && adapts;
        }
        num_units += layers.back().outputs;
        const int64_t tensors = 2 * (problem.last_adapting - problem.first_adapting);
        num_rates = rates == PARAMETER         ? moving
                    : rates == TENSOR_AND_STEP ? tensors * rate_steps
                    : rates == TENSOR          ? tensors
                                               : 0;
    }

    int64_t num_learned() const { return num_params + num_rates; }

    // Numbers that a pass holds of a unit and sample; of a ReLU, the value says all.
    int64_t pass_size() const { return activation == RELU ? 2 : 4; }
};

// The parameters of a task on their way: those that adapt, and those that do not.
template <typename Lanes> struct Theta {
    Lanes *moving, *still;

    Lanes* of(const Layer& l) const { return l.adapts ? moving : still; }
};

// What the outputs are to be. Of a task with gaps, a target that is NaN is none, and errors are averaged over the others.
template <typename T> struct Targets {
    using Lanes = typename Vector<T>::Lanes;
    const Lanes* values;
    int64_t size;  // samples times outputs
    bool has_gaps;
    Lanes count;   // over how many a task's errors are averaged

    Targets(const Lanes* values, int64_t size, bool has_gaps)
        : values(values), size(size), has_gaps(has_gaps), count(Lanes{} + T(has_gaps ? 0 : size)) {
        if (!has_gaps) return;
        for (int64_t i = 0; i < size; i++) count += there(i, Lanes{} + 1);
        count = count > 1 ? count : Lanes{} + 1;
    }

    // What belongs to a target, where there is one; elsewhere zero.
    Lanes there(int64_t i, Lanes value) const { return !has_gaps ? value : values[i] == values[i] ? value : Lanes{}; }
    Lanes error(int64_t i, Lanes output) const { return there(i, output - values[i]); }
};

// What a pass forward and back over samples leaves at every unit: its value, and the loss's derivative in its sum of
// inputs. Of a smooth activation also its slope, and its curvature times the loss's derivative in its value. Or, of a pass
// that follows another one along v: the derivatives of value and derivative, and in place of the slope that of the sum.
template <typename Lanes> struct Pass {
    int64_t shots;
    Lanes *values, *derivatives, *slopes, *bends;

    // One that lies in a piece of memory; without it, nothing.
    Pass(const Mlp& mlp, int64_t shots, Lanes* memory) : shots(shots), values(memory) {
        const int64_t size = shots * mlp.num_units;
        const bool is_smooth = memory && mlp.activation != RELU;
        derivatives = memory ? memory + size : nullptr;
        slopes = is_smooth ? memory + 2 * size : nullptr;
        bends = is_smooth ? memory + 3 * size : nullptr;
    }

    Matrix<Lanes> inputs(const Layer& l) const { return at(values, l.units, l.inputs); }
    Matrix<Lanes> outputs(const Layer& l) const { return at(values, l.units + l.inputs, l.outputs); }
    Matrix<Lanes> d_inputs(const Layer& l) const { return at(derivatives, l.units, l.inputs); }
    Matrix<Lanes> d_outputs(const Layer& l) const { return at(derivatives, l.units + l.inputs, l.outputs); }

    // Where among slopes and bends those of a layer's inputs begin, or of its outputs.
    int64_t before_inputs(const Layer& l) const { return l.units * shots; }
    int64_t before_outputs(const Layer& l) const { return (l.units + l.inputs) * shots; }

  private:
    Matrix<Lanes> at(Lanes* data, int64_t units, int64_t count) const {
        return {data + units * shots, shots, count, count, 1};
    }
};

// The computation of as many tasks as there are lanes.
template <typename T> struct Tasks {
    using Lanes = typename Vector<T>::Lanes;
    const Mlp& mlp;
    Lanes zero = {}, one = Lanes{} + 1;

    Matrix<Lanes> weight(Lanes* theta, const Layer& l) { return {theta + l.weight, l.outputs, l.inputs, l.inputs, 1}; }
    Matrix<Lanes> bias(Lanes* theta, const Layer& l, int64_t shots) { return {theta + l.bias, shots, l.outputs, 0, 1}; }
    Matrix<Lanes> column(Lanes* theta, const Layer& l) { return {theta + l.bias, l.outputs, 1, 1, 0}; }
    Matrix<Lanes> weight(Theta<Lanes> theta, const Layer& l) { return weight(theta.of(l), l); }
    Matrix<Lanes> zeros(int64_t rows, int64_t cols) { return {&zero, rows, cols, 0, 0}; }
    Matrix<Lanes> ones(int64_t rows) { return {&one, rows, 1, 0, 0}; }

    // Where among the rates that of a layer's weights (tensor 0) or biases (1) is at a step, or of its first parameter.
    int64_t rate_at(const Layer& l, int64_t tensor, int64_t step) const {
        switch (mlp.rates) {
            case PARAMETER: return (tensor ? l.bias : l.weight) - mlp.first_rate;
            case TENSOR_AND_STEP: return (l.tensors + tensor) * mlp.rate_steps + std::min(step, mlp.rate_steps - 1);
            case TENSOR: return l.tensors + tensor;
            default: return 0;
        }
    }

    // Rates as matrices like the weights and the biases of a layer.
    Matrix<Lanes> weight_rates(Lanes* rates, const Layer& l, int64_t step) const {
        const int64_t each = mlp.rates == PARAMETER;
        return {rates + rate_at(l, 0, step), l.outputs, l.inputs, each * l.inputs, each};
    }
    Matrix<Lanes> bias_rates(Lanes* rates, const Layer& l, int64_t step) const {
        return {rates + rate_at(l, 1, step), l.outputs, 1, int64_t(mlp.rates == PARAMETER), 0};
    }

    // Keep what passes a ReLU, whose value is known; a NaN passes.
    static void through_relu(Matrix<Lanes> derivatives, Matrix<Lanes> values) {
        for (Lanes *d = derivatives.begin(), *h = values.begin(); d != derivatives.end(); d++, h++)
            *d = *h <= 0 ? Lanes{} : *d;
    }

    // A layer's outputs, from sums to values.
    void activate(const Layer& l, Pass<Lanes> pass, bool with_slopes) {
        Matrix<Lanes> outputs = pass.outputs(l);
        if (mlp.activation == RELU) return through_relu(outputs, outputs);
        Lanes *slope = pass.slopes + pass.before_outputs(l), *bend = pass.bends + pass.before_outputs(l);
        for (Lanes& output : outputs) {
            const Smooth<T> found = smooth<T>(mlp.activation, output);
            output = found.value;
            if (with_slopes) *slope++ = found.slope, *bend++ = found.curvature;
        }
    }

    // The loss's derivatives in a layer's inputs, from those in values to those in sums.
    void back_through_activation(const Layer& l, Pass<Lanes> pass) {
        Matrix<Lanes> back = pass.d_inputs(l);
        if (mlp.activation == RELU) return through_relu(back, pass.inputs(l));
        Lanes *slope = pass.slopes + pass.before_inputs(l), *bend = pass.bends + pass.before_inputs(l);
        for (Lanes& derivative : back) {
            *bend++ *= derivative;
            derivative *= *slope++;
        }
    }

    // The same two along a direction.
    void activate_along(const Layer& l, Pass<Lanes> pass, Pass<Lanes> along) {
        Matrix<Lanes> outputs = along.outputs(l);
        if (mlp.activation == RELU) return through_relu(outputs, pass.outputs(l));
        const Lanes* slope = pass.slopes + pass.before_outputs(l);
        Lanes* sum = along.slopes + along.before_outputs(l);
        for (Lanes& output : outputs) {
            *sum++ = output;
            output *= *slope++;
        }
    }
    void back_through_activation_along(const Layer& l, Pass<Lanes> pass, Pass<Lanes> along) {
        Matrix<Lanes> back = along.d_inputs(l);
        if (mlp.activation == RELU) return through_relu(back, pass.inputs(l));
        const Lanes *slope = pass.slopes + pass.before_inputs(l), *bend = pass.bends + pass.before_inputs(l);
        const Lanes* sum = along.slopes + along.before_inputs(l);
        for (Lanes& derivative : back) {
            derivative *= *slope++;
            if (l.follows) derivative += *bend++ * *sum++;
        }
    }

    void forward(Theta<Lanes> theta, Pass<Lanes> pass, bool with_slopes = true) {
        for (const Layer& l : mlp.layers) {
            Matrix<Lanes> outputs = pass.outputs(l);
            product(outputs, bias(theta.of(l), l, pass.shots), T(1), pass.inputs(l), weight(theta, l).transposed());
            if (!l.last) activate(l, pass, with_slopes);
        }
    }

    // The derivatives down to the first layer of all, or that adapts. Returns the loss, the mean squared error.
    Lanes backward(Theta<Lanes> theta, Pass<Lanes> pass, const Targets<T>& targets, bool to_adapting = false) {
        const Layer& last = mlp.layers.back();
        Lanes loss = {}, *output = pass.outputs(last).begin(), *derivative = pass.d_outputs(last).begin();
        const Lanes share = 2 / targets.count;
        for (int64_t i = 0; i < targets.size; i++) {
            const Lanes error = targets.error(i, output[i]);
            loss += error * error / targets.count;
            derivative[i] = error * share;
        }
        for (auto l = mlp.layers.rbegin(); to_adapting ? l->follows : !l->first; l++) {
            Matrix<Lanes> back = pass.d_inputs(*l);
            product(back, zeros(back.rows, back.cols), T(1), pass.d_outputs(*l), weight(theta, *l));
            back_through_activation(*l, pass);
        }
        return loss;
    }

    // out = base + scale (derivatives^T values), the gradient of a layer's parameters; base null is zero.
    template <typename Scale>
    void add_gradient(const Layer& l, Lanes* out, Lanes* base, Scale scale, Scale bias_scale, Matrix<Lanes> derivatives,
                      Matrix<Lanes> values) {
        auto from = base ? weight(base, l) : zeros(l.outputs, l.inputs);
        auto from_bias = base ? column(base, l) : zeros(l.outputs, 1);
        product(weight(out, l), from, scale, derivatives.transposed(), values);
        product(column(out, l), from_bias, bias_scale, derivatives.transposed(), ones(values.rows));
    }

    // out = base + scale * the gradient in all parameters; base null is zero.
    void gradient(Lanes* out, Lanes* base, T scale, Pass<Lanes> pass) {
        for (const Layer& l : mlp.layers)
            add_gradient(l, out, base, scale, scale, pass.d_outputs(l), pass.inputs(l));
    }

    // out = theta + rates * the gradient, of what adapts; rates are negative.
    void inner_step(Lanes* out, Theta<Lanes> theta, Lanes* rates, int64_t step, Pass<Lanes> pass) {
        for (const Layer& l : mlp.layers)
            if (l.adapts)
                add_gradient(l, out, theta.moving, weight_rates(rates, l, step), bias_rates(rates, l, step),
                             pass.d_outputs(l), pass.inputs(l));
    }

    // Calls act(i, rate) for every parameter that adapts and where its rate is.
    template <typename Act> void for_each_rate(int64_t step, Act act) {
        const int64_t each = mlp.rates == PARAMETER;
        for (const Layer& l : mlp.layers) {
            if (!l.adapts) continue;
            for (int64_t i = l.weight; i < l.bias; i++) act(i, rate_at(l, 0, step) + each * (i - l.weight));
            for (int64_t i = 0; i < l.outputs; i++) act(l.bias + i, rate_at(l, 1, step) + each * i);
        }
    }

    // Back through an inner step. Adds to the meta-gradients of the rates; to second order v += H (rates * v), at the
    // theta whose gradient left `pass`. `along` is room for the derivatives of `pass` in a direction, `u` for that.
    void back_through(Lanes* v, Lanes* rate_grads, Theta<Lanes> theta, Lanes* rates, int64_t step, bool second_order,
                      const Targets<T>& targets, Pass<Lanes> pass, Pass<Lanes> along, Lanes* u) {
        if (mlp.rates != ONE) {
            for (const Layer& l : mlp.layers)
                if (l.adapts) add_gradient(l, u, nullptr, T(1), T(1), pass.d_outputs(l), pass.inputs(l));
            for_each_rate(step, [&](int64_t i, int64_t rate) { rate_grads[rate] -= v[i] * u[i]; });
        }
        if (!second_order) return;
        if (mlp.all_adapt && mlp.rates == ONE) {
            add_hessian_product(v, v, Matrix<Lanes>{rates, 1, 1, 0, 0}, theta, targets, pass, along);
        } else {
            for_each_rate(step, [&](int64_t i, int64_t rate) { u[i] = rates[rate] * v[i]; });
            add_hessian_product(v, u, T(1), theta, targets, pass, along);
        }
    }

    // v += scale H u, of a direction u that is zero where nothing adapts, and may be v.
    template <typename Scale>
    void add_hessian_product(Lanes* v, Lanes* u, Scale scale, Theta<Lanes> theta, const Targets<T>& targets,
                             Pass<Lanes> pass, Pass<Lanes> along) {
        for (const Layer& l : mlp.layers) {
            if (!l.adapts && !l.follows) continue;  // nothing changes along u here
            Matrix<Lanes> outputs = along.outputs(l);
            if (l.adapts)
                product(outputs, bias(u, l, pass.shots), T(1), pass.inputs(l), weight(u, l).transposed());
            if (l.follows)
                product(outputs, l.adapts ? outputs : zeros(outputs.rows, outputs.cols), T(1), along.inputs(l),
                        weight(theta, l).transposed());
            if (!l.last) activate_along(l, pass, along);
        }
        const Layer& last = mlp.layers.back();
        const Lanes *output = along.outputs(last).begin(), share = 2 / targets.count;
        Lanes* derivative = along.d_outputs(last).begin();
        for (int64_t i = 0; i < targets.size; i++) derivative[i] = targets.there(i, output[i] * share);
        for (auto l = mlp.layers.rbegin(); l != mlp.layers.rend(); l++) {
            if (!l->first) {
                Matrix<Lanes> back = along.d_inputs(*l);
                product(back, zeros(back.rows, back.cols), T(1), along.d_outputs(*l), weight(theta, *l));
                if (l->adapts) product(back, back, T(1), pass.d_outputs(*l), weight(u, *l));
                back_through_activation_along(*l, pass, along);
            }
            if (l->follows) {
                Matrix<Lanes> v_weight = weight(v, *l);
                product(v_weight, v_weight, scale, pass.d_outputs(*l).transposed(), along.inputs(*l));
            }
            add_gradient(*l, v, v, scale, scale, along.d_outputs(*l), pass.inputs(*l));
        }
    }
};

}  // namespace
