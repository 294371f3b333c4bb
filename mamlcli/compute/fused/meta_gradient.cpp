// The meta-gradient of ReLU MLPs under squared error: the numbers of algorithms/maml.py, from one walk over the tasks.
//
// The code reads as if for one task. What it calls a number, `Lanes`, holds that number of as many tasks as a vector
// register has lanes: 16 with AVX-512, in double precision 8. So no matrix is too small or of too odd a size for the
// vector unit, none is laid out anew, and a task's weights stay in the cache from its first inner step to its
// meta-gradient.
//
// Inner steps lead from theta_0 to theta_n (Finn et al. 2017, arXiv:1703.03400, Algorithm 1). Back from there,
//
//     v_n = grad L_query(theta_n),    v_j = v_(j+1) - alpha H_support(theta_j) v_(j+1),
//
// and v_0 is the task's meta-gradient; to first order it is v_n. H v is the derivative of the gradient along v, found
// by differentiating both of its passes in that direction (Pearlmutter 1994, Fast exact multiplication by the Hessian).

#include <algorithm>
#include <cstdint>
#include <vector>
#ifdef _OPENMP
#include <omp.h>
#endif

#pragma GCC diagnostic ignored "-Wpsabi"  // how a vector is passed to a function; none of those leaves this file

// What a caller knows of the experiment; fused/library.py has the same fields.
struct Problem {
    int64_t seeds, tasks, support_shots, query_shots, inner_steps, second_order, num_sizes;
    const int64_t* sizes;    // units of every layer, input and output included
    const double* inner_lr;  // of every seed
};

namespace {

// The bytes of a vector register, since compilers are slow with longer vectors; and how many results a product keeps in
// registers at once: as many as there are, less those for its operands.
#if defined __AVX512F__
constexpr int LANES_BYTES = 64, TILE_ROWS = 5, TILE_COLS = 4;
#elif defined __AVX__
constexpr int LANES_BYTES = 32, TILE_ROWS = 3, TILE_COLS = 3;
#elif defined __aarch64__
constexpr int LANES_BYTES = 16, TILE_ROWS = 5, TILE_COLS = 4;
#else
constexpr int LANES_BYTES = 16, TILE_ROWS = 3, TILE_COLS = 3;
#endif

template <typename T> struct Vector {
    typedef T Lanes __attribute__((vector_size(LANES_BYTES)));
    static constexpr int width = LANES_BYTES / sizeof(T);
};

// A matrix of numbers that lie anywhere; strides of zero repeat a row, a column or a single number.
template <typename Lanes> struct Matrix {
    Lanes* data;
    int64_t rows, cols, row_stride, col_stride;

    Lanes& operator()(int64_t i, int64_t j) const { return data[i * row_stride + j * col_stride]; }
    Lanes* begin() const { return data; }  // of a matrix without gaps
    Lanes* end() const { return data + rows * cols; }
    // The rest of the matrix, from row i and column j on.
    Matrix from(int64_t i, int64_t j) const { return {&(*this)(i, j), rows - i, cols - j, row_stride, col_stride}; }
    Matrix transposed() const { return {data, cols, rows, col_stride, row_stride}; }
};

// The first ROWS rows and COLS columns of a product.
template <int ROWS, int COLS, typename Lanes, typename Scale>
void tile(Matrix<Lanes> out, Matrix<Lanes> base, Scale scale, Matrix<Lanes> a, Matrix<Lanes> b) {
    Lanes sums[ROWS][COLS];  // in registers, once all loops over it are unrolled
    #pragma GCC unroll 16
    for (int i = 0; i < ROWS; i++)
        #pragma GCC unroll 16
        for (int j = 0; j < COLS; j++) sums[i][j] = Lanes{};
    for (int64_t k = 0; k < a.cols; k++)
        #pragma GCC unroll 16
        for (int i = 0; i < ROWS; i++)
            #pragma GCC unroll 16
            for (int j = 0; j < COLS; j++) sums[i][j] += a(i, k) * b(k, j);
    #pragma GCC unroll 16
    for (int i = 0; i < ROWS; i++)
        #pragma GCC unroll 16
        for (int j = 0; j < COLS; j++) out(i, j) = base(i, j) + scale * sums[i][j];
}

template <int ROWS, typename Lanes, typename Scale>
void rows_of_product(Matrix<Lanes> out, Matrix<Lanes> base, Scale scale, Matrix<Lanes> a, Matrix<Lanes> b) {
    int64_t j = 0;
    for (; j + TILE_COLS <= out.cols; j += TILE_COLS)
        tile<ROWS, TILE_COLS>(out.from(0, j), base.from(0, j), scale, a, b.from(0, j));
    for (; j < out.cols; j++) tile<ROWS, 1>(out.from(0, j), base.from(0, j), scale, a, b.from(0, j));
}

// out = base + scale a b; base may be out. The scale is the same for all tasks, or one of each lane.
template <typename Lanes, typename Scale>
void product(Matrix<Lanes> out, Matrix<Lanes> base, Scale scale, Matrix<Lanes> a, Matrix<Lanes> b) {
    int64_t i = 0;
    for (; i + TILE_ROWS <= out.rows; i += TILE_ROWS)
        rows_of_product<TILE_ROWS>(out.from(i, 0), base.from(i, 0), scale, a.from(i, 0), b);
    for (; i < out.rows; i++) rows_of_product<1>(out.from(i, 0), base.from(i, 0), scale, a.from(i, 0), b);
}

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

// The sum of a vector's lanes, by halves.
template <int COUNT, typename T> T total(const T* lanes) {
    if constexpr (COUNT == 1) {
        return *lanes;
    } else {
        typedef T Half __attribute__((vector_size(COUNT / 2 * sizeof(T))));
        Half low, high;
        __builtin_memcpy(&low, lanes, sizeof low);
        __builtin_memcpy(&high, lanes + COUNT / 2, sizeof high);
        low += high;
        return total<COUNT / 2>(reinterpret_cast<const T*>(&low));
    }
}

// Data of all tasks, one seed after the other, each as its tensor lies in memory.
template <typename T> struct Data {
    const T *params, *support_x, *support_y, *query_x, *query_y;
};

// What the tasks of a group need, cut from one piece of memory. Of memory that is null, only the size is found.
template <typename Lanes> struct Workspace {
    const Mlp& mlp;
    Lanes* memory;
    int64_t support, size = 0;  // size in numbers
    Lanes *thetas, *passes;
    Pass<Lanes> query, along;
    Lanes *v, *support_y, *query_y;

    Workspace(const Problem& problem, const Mlp& mlp, Lanes* memory)
        : mlp(mlp), memory(memory), support(problem.support_shots) {
        const int64_t shots = problem.query_shots, outputs = mlp.layers.back().outputs;
        thetas = take((problem.inner_steps + 1) * mlp.num_params);
        passes = take(problem.inner_steps * 2 * support * mlp.num_units);
        query = pass(shots, take(2 * shots * mlp.num_units));
        along = pass(support, take(2 * support * mlp.num_units));
        v = take(mlp.num_params);
        support_y = take(support * outputs);
        query_y = take(shots * outputs);
    }

    Lanes* theta(int64_t step) const { return thetas + step * mlp.num_params; }
    Pass<Lanes> support_pass(int64_t step) const { return pass(support, passes + step * 2 * support * mlp.num_units); }

  private:
    Lanes* take(int64_t count) {
        size += count;
        return memory ? memory + size - count : nullptr;
    }
    Pass<Lanes> pass(int64_t shots, Lanes* values) const {
        return {shots, values, values ? values + shots * mlp.num_units : nullptr};
    }
};

// Calls visit(seed, from, to) for the lanes that each seed has in a group that begins with the task `first` of all.
template <typename T, typename Visit> void for_each_seed(const Problem& problem, int64_t first, Visit visit) {
    const int64_t end = std::min(first + Vector<T>::width, problem.seeds * problem.tasks);
    for (int64_t seed = first / problem.tasks; seed * problem.tasks < end; seed++)
        visit(seed, std::max(seed * problem.tasks - first, int64_t(0)),
              std::min((seed + 1) * problem.tasks, end) - first);
}

// True in the lanes from `from` up to `to`.
template <typename T> auto lanes_between(int64_t from, int64_t to) {
    typename Vector<T>::Lanes lane;
    for (int i = 0; i < Vector<T>::width; i++) lane[i] = i;
    return (lane >= T(from)) & (lane < T(to));
}

// Gathers `size` numbers of every task, each task into its lane.
template <typename T>
void load(const Problem& problem, int64_t first, const T* data, int64_t size, typename Vector<T>::Lanes* out) {
    for (int lane = 0; lane < Vector<T>::width; lane++) {
        const int64_t task = std::min(first + lane, problem.seeds * problem.tasks - 1);  // idle lanes repeat the last
        for (int64_t i = 0; i < size; i++) out[i][lane] = data[task * size + i];
    }
}

// Computes the tasks from `first` on; leaves v_0 in room.v and returns the query losses.
template <typename T>
typename Vector<T>::Lanes compute_group(const Problem& problem, const Mlp& mlp, int64_t first, const Data<T>& data,
                                        Workspace<typename Vector<T>::Lanes>& room) {
    using Lanes = typename Vector<T>::Lanes;
    Tasks<T> tasks{mlp};
    const int64_t steps = problem.inner_steps;
    const int64_t inputs = mlp.layers.front().inputs, outputs = mlp.layers.back().outputs;
    Lanes alpha = {};
    for_each_seed<T>(problem, first, [&](int64_t seed, int64_t from, int64_t) {
        const T* params = data.params + seed * mlp.num_params;
        const auto mask = lanes_between<T>(from, Vector<T>::width);  // idle lanes are those of the last seed
        for (int64_t i = 0; i < mlp.num_params; i++) room.theta(0)[i] = mask ? Lanes{} + params[i] : room.theta(0)[i];
        alpha = mask ? Lanes{} + T(problem.inner_lr[seed]) : alpha;
    });
    load(problem, first, data.support_y, problem.support_shots * outputs, room.support_y);
    load(problem, first, data.query_y, problem.query_shots * outputs, room.query_y);
    load(problem, first, data.query_x, problem.query_shots * inputs, room.query.values);
    for (int64_t step = 0; step < steps; step++) {
        const Pass<Lanes> pass = room.support_pass(step);
        load(problem, first, data.support_x, problem.support_shots * inputs, pass.values);
        tasks.forward(room.theta(step), pass);
        tasks.backward(room.theta(step), pass, room.support_y);
        tasks.add_gradient(room.theta(step + 1), room.theta(step), -alpha, pass);
    }
    tasks.forward(room.theta(steps), room.query);
    const Lanes losses = tasks.backward(room.theta(steps), room.query, room.query_y);
    tasks.add_gradient(room.v, nullptr, T(1), room.query);
    for (int64_t step = steps - 1; problem.second_order && step >= 0; step--)
        tasks.subtract_hessian_product(room.v, alpha, room.theta(step), room.support_pass(step), room.along);
    return losses;
}

// Numbers that a thread needs.
int64_t workspace_size(const Problem& problem) {
    return Workspace<char>(problem, Mlp(problem), nullptr).size;
}

int thread_index() {
#ifdef _OPENMP
    return omp_get_thread_num();
#else
    return 0;
#endif
}

template <typename T>
void meta_gradient(const Problem& problem, [[maybe_unused]] int64_t threads, void* memory, const Data<T>& data,
                   T* grads, T* losses) {
    using Lanes = typename Vector<T>::Lanes;
    constexpr int width = Vector<T>::width;
    const Mlp mlp(problem);
    const int64_t room_size = workspace_size(problem);
    const int64_t groups = (problem.seeds * problem.tasks + width - 1) / width;
    const T share = T(1) / problem.tasks;
    std::fill_n(grads, problem.seeds * mlp.num_params, T(0));
    std::fill_n(losses, problem.seeds, T(0));
    // Groups add up in their order, so that the sum does not depend on how many threads there are.
    #pragma omp parallel for ordered schedule(static, 1) num_threads(threads)
    for (int64_t group = 0; group < groups; group++) {
        Workspace<Lanes> room(problem, mlp, static_cast<Lanes*>(memory) + thread_index() * room_size);
        const Lanes group_losses = compute_group(problem, mlp, group * width, data, room);
        #pragma omp ordered
        for_each_seed<T>(problem, group * width, [&](int64_t seed, int64_t from, int64_t to) {
            const auto mask = lanes_between<T>(from, to);
            auto add = [&](T& sum, const Lanes& lanes) {
                const Lanes kept = mask ? lanes : Lanes{};
                sum += share * total<width>(reinterpret_cast<const T*>(&kept));
            };
            for (int64_t i = 0; i < mlp.num_params; i++) add(grads[seed * mlp.num_params + i], room.v[i]);
            add(losses[seed], group_losses);
        });
    }
}

}  // namespace

extern "C" {

// What one thread needs, in float or double.
int64_t workspace_bytes(const Problem* problem) { return workspace_size(*problem) * LANES_BYTES; }

// Writes the meta-gradient (S, P) and the query losses (S) of S seeds with B tasks each.
void meta_gradient_float(const Problem* problem, int64_t threads, void* workspace, const float* params,
                         const float* support_x, const float* support_y, const float* query_x, const float* query_y,
                         float* grads, float* losses) {
    meta_gradient<float>(*problem, threads, workspace, {params, support_x, support_y, query_x, query_y}, grads, losses);
}

void meta_gradient_double(const Problem* problem, int64_t threads, void* workspace, const double* params,
                          const double* support_x, const double* support_y, const double* query_x,
                          const double* query_y, double* grads, double* losses) {
    meta_gradient<double>(*problem, threads, workspace, {params, support_x, support_y, query_x, query_y}, grads,
                          losses);
}

}
