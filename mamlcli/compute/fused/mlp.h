// Inner steps of ReLU networks under squared error, and the way back through them: the numbers of methods/maml.py.
//
// Inner steps lead from theta_0 to theta_n (Finn et al. 2017, arXiv:1703.03400, Algorithm 1). Back from there,
//
//     v_n = grad L_query(theta_n),    v_j = v_(j+1) - alpha H_support(theta_j) v_(j+1),
//
// and v_0 is the task's meta-gradient; to first order it is v_n. H v is the derivative of the gradient along v, found
// by differentiating both of its passes in that direction (Pearlmutter 1994, Fast exact multiplication by the Hessian).

#pragma once

#include <vector>

#include "lanes.h"

// What a caller knows of the experiment; library.py has the same fields.
struct Problem {
    int64_t seeds, tasks, support_shots, query_shots, inner_steps, second_order, num_sizes;
    const int64_t* sizes;    // units of every layer, input and output included
    const double* inner_lr;  // of every seed
};

namespace {

struct Layer {
    int64_t inputs, outputs;
    int64_t weight, bias;  // where they are among the parameters of a task
    int64_t units;         // how many units come before its inputs
    bool first, last;
};

struct Mlp {
    std::vector<Layer> layers;
    int64_t num_params = 0, num_units = 0;

    explicit Mlp(const Problem& problem) {
        for (int64_t l = 0; l + 1 < problem.num_sizes; l++) {
            const int64_t inputs = problem.sizes[l], outputs = problem.sizes[l + 1];
            layers.push_back({inputs, outputs, num_params, num_params + inputs * outputs, num_units, l == 0,
                              l + 2 == problem.num_sizes});
            num_params += (inputs + 1) * outputs;
            num_units += inputs;
        }
        num_units += layers.back().outputs;
    }
};

// What a pass forward and back over samples leaves at every unit: its value, and the loss's derivative in its sum of
// inputs. Or, of a pass that follows another one along v: the derivatives of both.
template <typename Lanes> struct Pass {
    int64_t shots;
    Lanes *values, *derivatives;

    Matrix<Lanes> inputs(const Layer& l) const { return at(values, l.units, l.inputs); }
    Matrix<Lanes> outputs(const Layer& l) const { return at(values, l.units + l.inputs, l.outputs); }
    Matrix<Lanes> d_inputs(const Layer& l) const { return at(derivatives, l.units, l.inputs); }
    Matrix<Lanes> d_outputs(const Layer& l) const { return at(derivatives, l.units + l.inputs, l.outputs); }

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
    Matrix<Lanes> zeros(int64_t rows, int64_t cols) { return {&zero, rows, cols, 0, 0}; }
    Matrix<Lanes> ones(int64_t rows) { return {&one, rows, 1, 0, 0}; }

    // Keep what passes a ReLU, whose value is known; a NaN passes.
    static void through_relu(Matrix<Lanes> derivatives, Matrix<Lanes> values) {
        for (Lanes *d = derivatives.begin(), *h = values.begin(); d != derivatives.end(); d++, h++)
            *d = *h <= 0 ? Lanes{} : *d;
    }

    void forward(Lanes* theta, Pass<Lanes> pass) {
        for (const Layer& l : mlp.layers) {
            Matrix<Lanes> outputs = pass.outputs(l);
            product(outputs, bias(theta, l, pass.shots), T(1), pass.inputs(l), weight(theta, l).transposed());
            if (!l.last) through_relu(outputs, outputs);
        }
    }

    // Returns the loss, the mean squared error.
    Lanes backward(Lanes* theta, Pass<Lanes> pass, const Lanes* targets) {
        const Layer& last = mlp.layers.back();
        const T count = pass.shots * last.outputs;
        Lanes loss = {}, *derivative = pass.d_outputs(last).begin();
        for (Lanes output : pass.outputs(last)) {
            Lanes error = output - *targets++;
            loss += error * error / count;
            *derivative++ = error * (2 / count);
        }
        for (auto l = mlp.layers.rbegin(); !l->first; l++) {
            Matrix<Lanes> back = pass.d_inputs(*l);
            product(back, zeros(back.rows, back.cols), T(1), pass.d_outputs(*l), weight(theta, *l));
            through_relu(back, pass.inputs(*l));
        }
        return loss;
    }

    // out = base + scale (derivatives^T values), the gradient of a layer's parameters; base null is zero.
    template <typename Scale>
    void add_gradient(const Layer& l, Lanes* out, Lanes* base, Scale scale, Matrix<Lanes> derivatives,
                      Matrix<Lanes> values) {
        auto from = base ? weight(base, l) : zeros(l.outputs, l.inputs);
        auto from_bias = base ? column(base, l) : zeros(l.outputs, 1);
        product(weight(out, l), from, scale, derivatives.transposed(), values);
        product(column(out, l), from_bias, scale, derivatives.transposed(), ones(values.rows));
    }

    template <typename Scale> void add_gradient(Lanes* out, Lanes* base, Scale scale, Pass<Lanes> pass) {
        for (const Layer& l : mlp.layers) add_gradient(l, out, base, scale, pass.d_outputs(l), pass.inputs(l));
    }

    // v -= alpha H v, at the theta whose gradient left `pass`; `along` is room for the derivatives of `pass` along v.
    void subtract_hessian_product(Lanes* v, Lanes alpha, Lanes* theta, Pass<Lanes> pass, Pass<Lanes> along) {
        for (const Layer& l : mlp.layers) {
            Matrix<Lanes> outputs = along.outputs(l);
            product(outputs, bias(v, l, pass.shots), T(1), pass.inputs(l), weight(v, l).transposed());
            if (!l.first) product(outputs, outputs, T(1), along.inputs(l), weight(theta, l).transposed());
            if (!l.last) through_relu(outputs, pass.outputs(l));
        }
        const Layer& last = mlp.layers.back();
        const T count = pass.shots * last.outputs;
        Lanes* derivative = along.d_outputs(last).begin();
        for (Lanes output : along.outputs(last)) *derivative++ = output * (2 / count);
        for (auto l = mlp.layers.rbegin(); l != mlp.layers.rend(); l++) {
            if (!l->first) {
                Matrix<Lanes> back = along.d_inputs(*l), v_weight = weight(v, *l);
                product(back, zeros(back.rows, back.cols), T(1), along.d_outputs(*l), weight(theta, *l));
                product(back, back, T(1), pass.d_outputs(*l), v_weight);
                through_relu(back, pass.inputs(*l));
                product(v_weight, v_weight, -alpha, pass.d_outputs(*l).transposed(), along.inputs(*l));
            }
            add_gradient(*l, v, v, -alpha, along.d_outputs(*l), pass.inputs(*l));
        }
    }
};

}  // namespace
