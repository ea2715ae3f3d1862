// cross_entropy_loss on the host: lanes are pixels, so that maximum, sum and choice of the label need no step across lanes.
//
// Where the classes of a pixel lie side by side (inner == 1), few of them are turned round into a scratch buffer first and the
// gradient back; where they fill vectors, lanes are classes instead. Sums are per task and in order: the same bits for any number of
// threads.
#include <cfloat>

#include "csrc/cpu/entries.h"
#include "csrc/cpu/sums.h"
#include "csrc/cpu/vec_math.h"

namespace warploom::cpu {
namespace {

// Labels and weights of up to kWidth pixels: a bad label has weight NaN, an ignored one 0; both have class -1.
struct Labels {
  vi label{}, ignored{};
  vf weight{};

  Labels(const CrossEntropyLoss& a, int64_t pixel, int n) {
    const vf t = load_part(a.target.ptr() + pixel, n);
    ignored = t == static_cast<float>(a.ignore_index);
    for (int k = n; k < kWidth; ++k) ignored[k] = -1;
    const vi inside = (t >= 0.0f) & (t < static_cast<float>(a.C)) & ~ignored;
    const vi whole = __builtin_convertvector(select(inside, t, vf{}), vi);
    const vi good = inside & (__builtin_convertvector(whole, vf) == t);
    label = select(good, whole, vi{} - 1);
    vf of_class = broadcast(1.0f);
    if (a.class_weight)
      for (int k = 0; k < n; ++k) of_class[k] = good[k] ? a.class_weight.ptr()[label[k]] : 0.0f;
    weight = select(ignored, vf{}, select(good, of_class, broadcast(__builtin_nanf(""))));
  }
};

// Lane k from or to p[k * stride], k < n.
WL_INLINE vf load_strided(const float* p, int64_t stride, int n) {
#if defined(__AVX512F__)
  const vi at = (vi{0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15}) * static_cast<int32_t>(stride);
  return reinterpret_cast<vf>(
      _mm512_mask_i32gather_ps(_mm512_setzero_ps(), static_cast<__mmask16>((1u << n) - 1), reinterpret_cast<__m512i>(at), p, 4));
#else
  vf v{};
  for (int k = 0; k < n; ++k) v[k] = p[k * stride];
  return v;
#endif
}
WL_INLINE void store_strided(float* p, int64_t stride, vf v, int n) {
#if defined(__AVX512F__)
  const vi at = (vi{0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15}) * static_cast<int32_t>(stride);
  _mm512_mask_i32scatter_ps(p, static_cast<__mmask16>((1u << n) - 1), reinterpret_cast<__m512i>(at), reinterpret_cast<__m512>(v),
                            4);
#else
  for (int k = 0; k < n; ++k) p[k * stride] = v[k];
#endif
}

// The sum of the losses of n pixels whose class c stands at x + c * stride; gradients go to g + c * stride, where g is given (it
// may be x).
double pixels_of(const CrossEntropyLoss& a, const Labels& labels, const float* x, float* g, int64_t stride, int n, float factor) {
  vf largest = broadcast(-FLT_MAX);  // not -infinity: such logits are classes that cannot be
  for (int64_t c = 0; c < a.C; ++c) {
    const vf v = load_part(x + c * stride, n);
    largest = v > largest ? v : largest;
  }
  vf sum{}, chosen = broadcast(__builtin_nanf(""));
  for (int64_t c = 0; c < a.C; ++c) {
    const vf v = load_part(x + c * stride, n), e = exp(v - largest);
    sum += e;
    chosen = select(labels.label == static_cast<int32_t>(c), v, chosen);
    if (g) store_part(g + c * stride, e, n);
  }
  const vf loss = labels.weight * ((largest - chosen) + log(sum));
  if (g) {
    const vf share = labels.weight * factor, per_sum = 1.0f / sum;
    for (int64_t c = 0; c < a.C; ++c) {
      const vf softmax = load_part(g + c * stride, n) * per_sum;
      const vf hit = select(labels.label == static_cast<int32_t>(c), broadcast(1.0f), vf{});
      store_part(g + c * stride, select(labels.ignored, vf{}, share * (softmax - hit)), n);
    }
  }
  double total = 0.0;
  for (int k = 0; k < n; ++k)
    if (!labels.ignored[k]) total += static_cast<double>(loss[k]);
  return total;
}

WL_INLINE float maximum(vf v) {
  float t[kWidth];
  store(t, v);
  for (int half = kWidth / 2; half > 0; half /= 2)
    for (int i = 0; i < half; ++i) t[i] = t[i + half] > t[i] ? t[i + half] : t[i];
  return t[0];
}

// The loss of one pixel whose classes stand side by side, whole vectors of them; its gradient where g is given.
double pixel_of(const CrossEntropyLoss& a, int32_t label, bool ignored, float weight, const float* x, float* g, float factor) {
  vf most = broadcast(-FLT_MAX);
  for (int64_t c = 0; c < a.C; c += kWidth) {
    const vf v = load(x + c);
    most = v > most ? v : most;
  }
  const float largest = maximum(most);
  vf sums{};
  for (int64_t c = 0; c < a.C; c += kWidth) {
    const vf e = exp(load(x + c) - largest);
    sums += e;
    if (g) store(g + c, e);
  }
  const float total = sum(sums);
  if (g) {
    const float share = weight * factor, each = share * (1.0f / total);
    if (ignored) {
      for (int64_t c = 0; c < a.C; c += kWidth) store(g + c, vf{});
    } else {
      for (int64_t c = 0; c < a.C; c += kWidth) store(g + c, load(g + c) * each);
      if (label >= 0) g[label] -= share;
    }
  }
  if (ignored) return 0.0;
  const float chosen = label >= 0 ? x[label] : __builtin_nanf("");
  return static_cast<double>(weight * ((largest - chosen) + log(broadcast(total))[0]));
}

// A task is a run of pixels of one outer index, or of rows where inner is 1.
struct Tasks {
  int64_t runs, run, per_outer;  // number of tasks, pixels of one, tasks per outer index

  explicit Tasks(const CrossEntropyLoss& a) {
    const int64_t length = a.inner == 1 ? a.outer : a.inner;
    run = std::min(round_up(length, 16), std::max<int64_t>(64, round_up(32768 / a.C, 16)));
    per_outer = ceil_div(length, run);
    runs = a.inner == 1 ? per_outer : a.outer * per_outer;
  }
};

void run(const CrossEntropyLoss& a, const Context& context) {
  const Tasks tasks(a);
  const int64_t pixels = a.outer * a.inner;
  Carver carver(context.workspace);
  double* partial = carver.take<double>(std::max(tasks.runs, ceil_div(pixels, kSumBlock)));
  float* scratch = carver.take(a.inner == 1 ? thread_count() * a.C * kWidth : 0);

  double weights[1];
  sum_blocks<1>(pixels, partial, weights, [&](int64_t i, int n, vd* terms) { widen(Labels(a, i, n).weight, terms[0]); });
  const bool nothing = weights[0] == 0.0;  // every label is ignored
  const float factor = nothing ? 0.0f : static_cast<float>(a.weight / weights[0]);
  float* grad = a.grad.ptr();

  parallel(tasks.runs, [&](int64_t task, int worker) {
    const int64_t outer = a.inner == 1 ? 0 : task / tasks.per_outer, first = task % tasks.per_outer * tasks.run;
    const int64_t end = std::min(first + tasks.run, a.inner == 1 ? a.outer : a.inner);
    double total = 0.0;
    for (int64_t s = first; s < end; s += kWidth) {
      const int n = static_cast<int>(std::min<int64_t>(kWidth, end - s));
      const Labels labels(a, outer * a.inner + s, n);
      if (a.inner > 1) {
        const int64_t at = outer * a.C * a.inner + s;
        total += pixels_of(a, labels, a.prediction.ptr() + at, grad ? grad + at : nullptr, a.inner, n, factor);
        continue;
      }
      if (a.C % kWidth == 0 && a.C >= 2 * kWidth) {
        for (int k = 0; k < n; ++k)
          total += pixel_of(a, labels.label[k], labels.ignored[k] != 0, labels.weight[k], a.prediction.ptr() + (s + k) * a.C,
                            grad ? grad + (s + k) * a.C : nullptr, factor);
        continue;
      }
      float* turned = scratch + worker * a.C * kWidth;
      const float* rows = a.prediction.ptr() + s * a.C;
      for (int64_t c = 0; c < a.C; ++c) store(turned + c * kWidth, load_strided(rows + c, a.C, n));
      total += pixels_of(a, labels, turned, grad ? turned : nullptr, kWidth, n, factor);
      if (!grad) continue;
      float* back = grad + s * a.C;
      for (int64_t c = 0; c < a.C; ++c) store_strided(back + c, a.C, load(turned + c * kWidth), n);
    }
    partial[task] = total;
  });
  double total = 0.0;
  for (int64_t t = 0; t < tasks.runs; ++t) total += partial[t];
  if (nothing)
    *a.loss.ptr() = 0.0f;  // no loss, and nothing in the mean of the epoch
  else
    store_loss(a, total / weights[0]);
}

int64_t workspace_bytes(const CrossEntropyLoss& a) {
  Carver carver;
  carver.take<double>(std::max(Tasks(a).runs, ceil_div(a.outer * a.inner, kSumBlock)));
  carver.take(a.inner == 1 ? thread_count() * a.C * kWidth : 0);
  return carver.used();
}

std::string why_not(const CrossEntropyLoss& a) {
  if (a.outer < 1 || a.C < 1 || a.inner < 1) return "the mean over no pixels is undefined; outer, C and inner must be positive";
  if (a.C > (int64_t(1) << 24)) return "labels are floats, which count to 16777216 classes at most; C is " + std::to_string(a.C);
  return "";
}

}  // namespace

Entry<CrossEntropyLoss> cross_entropy_loss() { return {run, why_not, workspace_bytes, nullptr}; }

}  // namespace warploom::cpu
