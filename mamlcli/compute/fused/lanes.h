// Numbers of several tasks at once, and products of matrices of them.
//
// The code that uses these reads as if for one task. What it calls a number, `Lanes`, holds that number of as many tasks
// as a vector register has lanes: 16 with AVX-512, in double precision 8. So no matrix is too small or of too odd a size
// for the vector unit, none is laid out anew, and a task's weights stay in the cache from its first inner step to its
// meta-gradient.

#pragma once

#include <cstdint>

#pragma GCC diagnostic ignored "-Wpsabi"  // how a vector is passed to a function; none of those leaves the library

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

// What scales a product: the same number for all results, or a matrix of one for each.
template <typename T> T scale_at(T scale, int64_t, int64_t) { return scale; }
template <typename T> T scale_from(T scale, int64_t, int64_t) { return scale; }
template <typename Lanes> Lanes scale_at(Matrix<Lanes> scale, int64_t i, int64_t j) { return scale(i, j); }
template <typename Lanes> Matrix<Lanes> scale_from(Matrix<Lanes> scale, int64_t i, int64_t j) { return scale.from(i, j); }

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
        for (int j = 0; j < COLS; j++) out(i, j) = base(i, j) + scale_at(scale, i, j) * sums[i][j];
}

template <int ROWS, typename Lanes, typename Scale>
void rows_of_product(Matrix<Lanes> out, Matrix<Lanes> base, Scale scale, Matrix<Lanes> a, Matrix<Lanes> b) {
    int64_t j = 0;
    for (; j + TILE_COLS <= out.cols; j += TILE_COLS)
        tile<ROWS, TILE_COLS>(out.from(0, j), base.from(0, j), scale_from(scale, 0, j), a, b.from(0, j));
    for (; j < out.cols; j++)
        tile<ROWS, 1>(out.from(0, j), base.from(0, j), scale_from(scale, 0, j), a, b.from(0, j));
}

// out = base + scale a b; base may be out.
template <typename Lanes, typename Scale>
void product(Matrix<Lanes> out, Matrix<Lanes> base, Scale scale, Matrix<Lanes> a, Matrix<Lanes> b) {
    int64_t i = 0;
    for (; i + TILE_ROWS <= out.rows; i += TILE_ROWS)
        rows_of_product<TILE_ROWS>(out.from(i, 0), base.from(i, 0), scale_from(scale, i, 0), a.from(i, 0), b);
    for (; i < out.rows; i++)
        rows_of_product<1>(out.from(i, 0), base.from(i, 0), scale_from(scale, i, 0), a.from(i, 0), b);
}

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

}  // namespace
