// elementwise.cpp - activation, add, SGD and MSE: one pass over flat arrays, blocks of fixed size over the threads.
//
// The loss is summed in double precision: per block of kSumBlock elements, then over the blocks in order, so that its bits do not
// depend on the number of threads.
#include <type_traits>

#include "common.h"
#include "entries.h"

namespace warploom::cpu {
namespace {

constexpr int64_t kBlockElements = 32768;
constexpr int64_t kSumBlock = 16384;

// f(i, n): the vector at i, of which n elements exist.
template <class F>
void for_vectors(int64_t count, F&& f) {
  parallel_blocks(count, kBlockElements, [&](int64_t begin, int64_t end, int) {
    int64_t i = begin;
    for (; i + kWidth <= end; i += kWidth) f(i, kWidth);
    if (i < end) f(i, static_cast<int>(end - i));
  });
}

// f(integral_constant<Activation>): the kind as a constant of the code.
template <class F>
void with_any_activation(Activation kind, F&& f) {
  switch (kind) {
#define WL_CASE(name)    \
  case Activation::name: \
    return f(std::integral_constant<Activation, Activation::name>());
    WL_ACTIVATIONS(WL_CASE)
#undef WL_CASE
  }
}

}  // namespace

void activation_forward(const ActivationForward& a, const Context&) {
  const float *x = a.x.ptr(), slope = a.negative_slope;
  float* y = a.y.ptr();
  with_any_activation(a.kind, [&](auto kind) {
    for_vectors(a.count, [&](int64_t i, int n) {
      const vf v = load_part(x + i, n);
      store_part(y + i, in_epilogues(kind()) ? activate(v, kind(), slope) : smooth_activation(v, kind(), slope), n);
    });
  });
}

void activation_backward(const ActivationBackward& a, const Context&) {
  const float *dy = a.dy.ptr(), *at = gradient_needs_input(a.kind) ? a.x.ptr() : a.y.ptr(), slope = a.negative_slope;
  float* dx = a.dx.ptr();
  with_any_activation(a.kind, [&](auto kind) {
    for_vectors(a.count, [&](int64_t i, int n) {
      const vf g = load_part(dy + i, n), v = load_part(at + i, n);
      store_part(dx + i,
                 in_epilogues(kind()) ? activate_backward(g, v, kind(), slope) : smooth_activation_backward(g, v, kind(), slope),
                 n);
    });
  });
}

void add(const Add& s, const Context&) {
  const float *a = s.a.ptr(), *b = s.b.ptr();
  float* y = s.y.ptr();
  for_vectors(s.count, [&](int64_t i, int n) { store_part(y + i, load_part(a + i, n) + load_part(b + i, n), n); });
}

int64_t mse_loss_workspace(const MseLoss& a) { return ceil_div(a.count, kSumBlock) * static_cast<int64_t>(sizeof(double)); }

void mse_loss(const MseLoss& a, const Context& context) {
  const float *p = a.prediction.ptr(), *t = a.target.ptr();
  float* grad = a.grad.ptr();
  double* partial = context.workspace.ptr<double>();
  const float scale = static_cast<float>(2.0 * a.weight / static_cast<double>(a.count));
  parallel_blocks(a.count, kSumBlock, [&](int64_t begin, int64_t end, int) {
    double total = 0;
    for (int64_t i = begin; i < end; i += kWidth) {
      const int n = static_cast<int>(std::min<int64_t>(kWidth, end - i));
      const vf d = load_part(p + i, n) - load_part(t + i, n);
      if (grad) store_part(grad + i, d * scale, n);
      using vd = double __attribute__((vector_size(kWidth * 8)));
      const vd wide = __builtin_convertvector(d, vd);
      const vd square = wide * wide;
      for (int k = 0; k < kWidth; ++k) total += square[k];
    }
    partial[begin / kSumBlock] = total;
  });
  double total = 0;
  const int64_t blocks = ceil_div(a.count, kSumBlock);
  for (int64_t b = 0; b < blocks; ++b) total += partial[b];
  const double loss = a.weight * total / static_cast<double>(a.count);
  *a.loss.ptr() = static_cast<float>(loss);
  if (a.total) {
    a.total.ptr<double>()[0] += loss * a.samples;
    a.total.ptr<double>()[1] += a.samples;
  }
}

void sgd_update(const SgdUpdate& a, const Context&) {
  const float lr = a.hyper.ptr()[0], momentum = a.hyper.ptr()[1], decay = a.hyper.ptr()[2];
  const float scale = a.scale ? *a.scale.ptr() : 1.0f;
  const float* g = a.g.ptr();
  float *w = a.w.ptr(), *velocity = a.velocity.ptr();
  for_vectors(a.count, [&](int64_t i, int n) {
    const vf weight = load_part(w + i, n);
    vf d = scale * load_part(g + i, n) + decay * weight;
    if (velocity) {
      const vf v = momentum * load_part(velocity + i, n) + d;
      store_part(velocity + i, v, n);
      d = a.nesterov ? d + momentum * v : v;
    }
    store_part(w + i, weight - lr * d, n);
  });
}

}  // namespace warploom::cpu
