// choice.h - inside v6: which convolutions go to which scheme, and what the rest is told. Host code only.
//
// WARPLOOM_BILINEAR=NAME (winograd4, winograd2, upsample9, upsample25, few_inputs, none) forces a scheme where it can take the shape, for tests
// and measurements.
#pragma once

#include <algorithm>
#include <cstdlib>
#include <string>

#include "../common/preconditions.h"
#include "passes.h"

namespace warploom::v6 {

constexpr Scheme kSchemes[] = {Scheme::winograd4, Scheme::winograd2, Scheme::upsample25, Scheme::upsample9};

inline const char* scheme_name(Scheme scheme) {
  if (scheme == Scheme::none) return "none";
  if (scheme == Scheme::few_inputs) return "few_inputs";
  return with_scheme(scheme, [](auto s) { return decltype(s)::name; });
}

inline int64_t ceil_div(int64_t a, int64_t b) { return (a + b - 1) / b; }

// "" or why no scheme of this version may take the call, whatever its size.
inline std::string shape_error(const Conv2dShape& s, const Fusion& f) {
  const std::string why = conv2d_shape_error(s);
  if (!why.empty()) return why;
  if (!in_epilogues(f.activation)) return epilogue_error(f);
  if (f.precision != Precision::fp32) return "v6's schemes compute in precision fp32; other precisions are those of v5 and v2";
  const std::string stored = storage_error(f.x_type, f.y_type);
  if (!stored.empty()) return stored;
  if (s.KH != 3 || s.KW != 3 || s.stride_h != 1 || s.stride_w != 1 || s.groups != 1)
    return "v6's schemes are for 3x3 convolutions of stride 1 with one group";
  if (s.N < 1) return "v6's schemes need at least one image";
  if (f.pool != 1 && f.pool != 2)
    return "v6 folds a max pool of 2x2 into a convolution, not of " + std::to_string(f.pool) + "x" + std::to_string(f.pool);
  if (f.pool == 2 && (s.OH < 2 || s.OW < 2)) return "a map of less than 2x2 pixels has no window of 2x2 to pool";
  if (f.pool == 2 && f.activation == Activation::sigmoid) return "v6 folds no sigmoid in front of a folded max pool";
  if (f.pool == 2 && f.activation == Activation::leaky_relu && f.negative_slope < 0.0f)
    return "v6 tells the slope of a leaky ReLU by the sign of its output; a negative slope hides it";
  if (f.upsample == 1) return "";
  if (f.upsample != 2) return "v6 folds nearest upsampling by 2 into a convolution, not by " + std::to_string(f.upsample);
  if (f.pool != 1) return "v6 folds an upsample or a pool into a convolution, not both";
  if (s.H % 2 || s.W % 2) return "an image upsampled by 2 has an even height and width";
  if (s.pad_top != 1 || s.pad_bottom != 1 || s.pad_left != 1 || s.pad_right != 1)
    return "v6's schemes after an upsample need a padding of 1";
  return "";
}

constexpr int64_t kFilterLimit = int64_t(64) << 20;  // bytes of workspace for the transformed weights

// "" or why this scheme cannot.
template <class S>
std::string scheme_error(const Conv2dShape& s, const Fusion& f) {
  if (f.upsample != S::kUp)
    return S::kUp == 2 ? std::string(S::name) + " is for a folded upsample by 2" : std::string(S::name) + " folds no upsample";
  constexpr int PP = S::kProducts * S::kProducts;
  if (int64_t(PP) * padded(s.C_in) * padded(s.C_out) * 4 > kFilterLimit)
    return "the transformed weights of " + std::string(S::name) + " would take more than " + std::to_string(kFilterLimit >> 20) +
           " MiB";
  const int64_t rows = std::max(ceil_div(s.OH, S::kOut), ceil_div(s.H, S::kOut));
  const int64_t columns = std::max(ceil_div(s.OW, S::kOut), ceil_div(s.W, S::kOut));
  if (rows * s.N >= kImageLimit || 3 * columns * PP * (padded(s.C_in) + padded(s.C_out)) >= kImageLimit)
    return "the maps are too large for v6's schemes, which count the tiles of a chunk in 32 bits";
  return "";
}

// Multiply-adds, and kMove of them for a number of V or M, which is written and read once: 49 to 80 on an H100 (from L2 to device
// memory), 101 on a T4. The transformed weights count like V. Products are filled up to 64 rows and 32 columns.
constexpr double kMove = 64;
template <class S>
double scheme_cost(const Conv2dShape& s) {
  const double tiles = double(ceil_div(int64_t(s.N) * ceil_div(s.OH, S::kOut) * ceil_div(s.OW, S::kOut), 64) * 64);
  const double C = padded(s.C_in), N = padded(s.C_out), wide = double(ceil_div(s.C_out, 32) * 32);
  return S::kProducts * S::kProducts * (tiles * (C * wide + kMove * (C + N)) + kMove * C * N);
}
// Of v2's kernels: an upsample becomes four convolutions of 2x2 (4 multiplications an output) before it gets here.
inline double direct_cost(const Conv2dShape& s, const Fusion& f) {
  const double pixels = double(ceil_div(int64_t(s.N) * s.OH * s.OW, 64) * 64), wide = double(ceil_div(s.C_out, 16) * 16);
  return 1.25 * pixels * (f.upsample == 2 ? 4 : 9) * s.C_in * wide;
}

// "" or why the direct kernel of few inputs cannot. A gradient of its input, if anybody wants it, is winograd4's.
inline std::string few_inputs_error(const Conv2dShape& s, const Fusion& f) {
  if (f.upsample != 1) return "few_inputs folds no upsample";
  if (s.C_in > 4 || s.C_out % 4 != 0) return "few_inputs is for up to 4 input channels and a multiple of 4 output channels";
  if (int64_t(s.N) * s.OH >= kImageLimit || int64_t(9) * s.C_in * s.C_out >= kImageLimit) return "few_inputs counts in 32 bits";
  return scheme_error<WinogradF4>(s, f);
}
// Its sums are few; what pays is that the map before a pool or an activation is not written.
inline bool few_inputs_pay(const Conv2dShape& s) { return s.C_in <= 4 && s.C_out >= 16; }

// The scheme, or none and why.
inline Scheme choose(const Conv2dShape& s, const Fusion& f, std::string* why = nullptr) {
  std::string reason = shape_error(s, f);
  const char* forced = std::getenv("WARPLOOM_BILINEAR");
  Scheme best = Scheme::none;
  if (reason.empty() && forced && *forced) {
    reason = "WARPLOOM_BILINEAR is \"" + std::string(forced) + "\"";
    if (std::string(forced) == scheme_name(Scheme::few_inputs)) {
      reason = few_inputs_error(s, f);
      if (reason.empty()) best = Scheme::few_inputs;
    }
    for (const Scheme scheme : kSchemes)
      if (std::string(forced) == scheme_name(scheme)) {
        reason = with_scheme(scheme, [&](auto t) { return scheme_error<decltype(t)>(s, f); });
        if (reason.empty()) best = scheme;
      }
  } else if (reason.empty() && few_inputs_pay(s) && few_inputs_error(s, f).empty()) {
    best = Scheme::few_inputs;
  } else if (reason.empty()) {
    double lowest = direct_cost(s, f);
    reason = "v6's schemes would cost this shape more than a direct convolution";
    for (const Scheme scheme : kSchemes)
      with_scheme(scheme, [&](auto t) {
        using S = decltype(t);
        const std::string refused = scheme_error<S>(s, f);
        const double cost = scheme_cost<S>(s);
        if (refused.empty() && cost < lowest) best = scheme, lowest = cost;
      });
  }
  if (why) *why = best == Scheme::none ? reason : "";
  return best;
}

inline bool folds_anything(const Fusion& f) { return f.activation != Activation::none || f.pool != 1 || f.upsample != 1; }

}  // namespace warploom::v6
