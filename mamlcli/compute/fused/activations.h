// What follows a hidden layer: its value, and for the way back its slope and its curvature, of a vector at a time.

#pragma once

#include <cmath>

#include "lanes.h"

// In the order of library.py.
enum Activation { RELU, TANH, SIGMOID, SILU, ELU, SOFTPLUS, GELU };

namespace {

template <typename T> struct Bits;
template <> struct Bits<float> {
    typedef int32_t Lanes __attribute__((vector_size(LANES_BYTES)));
    static constexpr int mantissa = 23, bias = 127, terms = 8;  // of expm1 near zero
    static constexpr float lowest = -80, ln2_high = 0x1.62e4p-1f, ln2_low = 0x1.7f7d1cp-20f;
};
template <> struct Bits<double> {
    typedef int64_t Lanes __attribute__((vector_size(LANES_BYTES)));
    static constexpr int mantissa = 52, bias = 1023, terms = 14;
    static constexpr double lowest = -700, ln2_high = 0x1.62e42feep-1, ln2_low = 0x1.a39ef35793c76p-33;
};

// e^x of x <= 0, as 2^k (1 + rest) with a rest near zero.
template <typename T> struct Power {
    using Lanes = typename Vector<T>::Lanes;
    Lanes two_to_k, rest;

    explicit Power(Lanes x) {
        using B = Bits<T>;
        x = x < B::lowest ? Lanes{} + B::lowest : x;  // a NaN stays one
        const auto k = __builtin_convertvector(x * T(1.4426950408889634) - T(0.5), typename B::Lanes);
        const Lanes whole = __builtin_convertvector(k, Lanes);
        const Lanes r = (x - whole * B::ln2_high) - whole * B::ln2_low;
        rest = Lanes{};
        for (int n = B::terms; n > 0; n--) rest = r / T(n) * (1 + rest);  // Taylor: r (1 + r/2 (1 + r/3 (...)))
        two_to_k = (Lanes)((k + B::bias) << B::mantissa);
    }

    Lanes exp() const { return two_to_k + two_to_k * rest; }
    Lanes expm1() const { return (two_to_k - 1) + two_to_k * rest; }
};

template <typename T> struct Smooth {
    using Lanes = typename Vector<T>::Lanes;
    Lanes value, slope, curvature;
};

// Calls a function of one number for each lane.
template <typename T, typename Function> typename Vector<T>::Lanes lane_by_lane(Function function, typename Vector<T>::Lanes x) {
    for (int i = 0; i < Vector<T>::width; i++) x[i] = function(x[i]);
    return x;
}

// An activation that is no ReLU, as torch has it.
template <typename T> Smooth<T> smooth(Activation activation, typename Vector<T>::Lanes z) {
    using Lanes = typename Vector<T>::Lanes;
    const Lanes size = z < 0 ? -z : z, zero = {};
    switch (activation) {
        case TANH: {
            const Lanes less = Power<T>(-2 * size).expm1(), of_size = -less / (less + 2);
            const Lanes value = z < 0 ? -of_size : of_size, slope = 1 - value * value;
            return {value, slope, -2 * value * slope};
        }
        case ELU: {
            const Power<T> power(z < 0 ? z : zero);
            const Lanes rest = power.expm1(), slope = power.exp();
            return {z > 0 ? z : z < 0 ? rest : z, z > 0 ? zero + 1 : slope, z > 0 ? zero : slope};
        }
        case GELU: {
            const Lanes normal = Power<T>(z * z / T(-2)).exp() * T(0.3989422804014327);
            const Lanes share = (1 + lane_by_lane<T>([](T x) { return std::erf(x); }, z * T(0.7071067811865476))) / 2;
            return {z * share, share + z * normal, normal * (2 - z * z)};
        }
        default: break;
    }
    const Lanes power = Power<T>(-size).exp(), share = 1 / (1 + power);
    const Lanes logistic = z < 0 ? power * share : share, slope = power * share * share;
    if (activation == SIGMOID) return {logistic, slope, slope * (1 - 2 * logistic)};
    if (activation == SILU) return {z * logistic, logistic + z * slope, slope * (2 + z * (1 - 2 * logistic))};
    // Softplus, which torch takes for linear above 20.
    const Lanes value = (z < 0 ? zero : z) + lane_by_lane<T>([](T x) { return std::log1p(x); }, power);
    return {z > 20 ? z : value, z > 20 ? zero + 1 : logistic, z > 20 ? zero : slope};
}

}  // namespace
