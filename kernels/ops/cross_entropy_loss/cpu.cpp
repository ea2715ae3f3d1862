// cross_entropy_loss on the host: lanes are pixels, so that maximum, sum and choice of the label need no step across lanes.
//
// Where the classes of a pixel lie side by side (inner == 1), a vector of pixels is turned round into a scratch buffer first and
// the gradient back. Sums are per task and in order: the same bits for any number of threads.
#include <cfloat>
#include <cmath>

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
    const float* target = a.target.ptr() + pixel;
    for (int k = 0; k < kWidth; ++k) {
      const float t = k < n ? target[k] : static_cast<float>(a.ignore_index);
      const bool skip = t == static_cast<float>(a.ignore_index);
      const bool good = !skip && t >= 0.0f && t < static_cast<float>(a.C) && t == std::floor(t);
      ignored[k] = skip ? -1 : 0;
      label[k] = good ? static_cast<int>(t) : -1;
      weight[k] = skip ? 0.0f : !good ? __builtin_nanf("") : a.class_weight ? a.class_weight.ptr()[label[k]] : 1.0f;
    }
  }
};

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
  sum_blocks<1>(pixels, partial, weights, [&](int64_t i, int n, vd* terms) { terms[0] = widen(Labels(a, i, n).weight); });
  const float factor = static_cast<float>(a.weight / weights[0]);
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
      float* turned = scratch + worker * a.C * kWidth;
      const float* rows = a.prediction.ptr() + s * a.C;
      for (int k = 0; k < n; ++k)
        for (int64_t c = 0; c < a.C; ++c) turned[c * kWidth + k] = rows[k * a.C + c];
      total += pixels_of(a, labels, turned, grad ? turned : nullptr, kWidth, n, factor);
      if (!grad) continue;
      float* back = grad + s * a.C;
      for (int k = 0; k < n; ++k)
        for (int64_t c = 0; c < a.C; ++c) back[k * a.C + c] = turned[c * kWidth + k];
    }
    partial[task] = total;
  });
  double total = 0.0;
  for (int64_t t = 0; t < tasks.runs; ++t) total += partial[t];
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
