// Maths    dx = fold(W^T * dy), or dx = W'^T * unfold(dy) where the output has no more channels than the input (stride 1).
// Layout   dy, dx NCHW; w oihw, read as its own transpose; W' [O * taps, I] is a turned copy in the workspace.
// Owns     see gemm_tn.cu, unfold.cu, fold.cu; this file only chooses and chains them.
// Bound    the matrix product. The fold gathers, so no atomics and a fixed order of summation.
// Needs    a plain convolution; fewer than 2^31 elements an image.
#include "plan.h"

namespace warploom::v4 {
inline namespace backward_input_kernels {

struct Buffers {
  Form form;
  int64_t columns;  // of the widest piece
  float *matrix, *turned;
  int64_t bytes;
};

Buffers plan(const Conv2dBackwardInput& a, void* base) {
  Carver space(base);
  Buffers b{choose_form(a.s, Direction::backward_input), 0, nullptr, nullptr, 0};
  const GroupShape g(a.s);
  if (b.form == Form::direct) {
    b.columns = std::min(a.s.N * g.P_in, int64_t(1) << 30);
  } else if (b.form == Form::unfold_output) {
    const Unfold u = unfold_output(a.s);
    b.columns = window_columns(u.rows(), a.s.N * g.P_in);
    b.turned = space.take(a.s.w_count());
    b.matrix = space.take(u.rows() * padded(b.columns));
  } else {
    const Unfold u = unfold_input(a.s);
    b.columns = fold_pieces(u, a.s.N).columns;
    b.matrix = space.take(u.rows() * padded(b.columns));
  }
  b.bytes = space.bytes();
  return b;
}

// W' (or W, for 1x1) [O * taps, I], transposed, times the unfolded output gradient: straight into dx.
void run_unfolded(const Conv2dBackwardInput& a, const Buffers& buffers, const Context& context) {
  const GroupShape g(a.s);
  const bool direct = buffers.form == Form::direct;
  const int64_t total = a.s.N * g.P_in, K = int64_t(g.O) * g.taps;
  if (!direct) turn_weights(g.groups, g.O, g.I, g.taps, a.w.ptr(), buffers.turned, context);
  for (int64_t first = 0; first < total; first += buffers.columns) {
    const Window window{first, static_cast<int>(std::min(buffers.columns, total - first))};
    GemmProblem p;
    p.M = g.I, p.N = window.count, p.K = static_cast<int>(K), p.batch = g.groups;
    p.a = plain_matrix<const float>(direct ? a.w.ptr() : buffers.turned, g.I, g.I), p.a_batch = g.I * K;
    if (direct) {
      p.b = image_matrix(a.dy.ptr(), a.s.C_out, g.P_out, first), p.b_batch = g.O * g.P_out;
    } else {
      unfold(unfold_output(a.s), a.dy.ptr(), window, buffers.matrix, context);
      p.b = plain_matrix<const float>(buffers.matrix, window.stride(), window.stride()), p.b_batch = K * window.stride();
    }
    p.c = image_matrix(a.dx.ptr(), a.s.C_in, g.P_in, first), p.c_batch = g.I * g.P_in;
    sgemm_tn(p, context);
  }
}

// W [O, I * taps], transposed, times dy gives the gradient of the columns; folding them gives dx.
void run_folded(const Conv2dBackwardInput& a, const Buffers& buffers, const Context& context) {
  const GroupShape g(a.s);
  const Unfold u = unfold_input(a.s);
  const int64_t K = int64_t(g.I) * g.taps;
  for_each_piece(u, a.s.N, [&](const FoldRegion& region, const Window& window) {
    GemmProblem p;
    p.M = static_cast<int>(K), p.N = window.count, p.K = g.O, p.batch = g.groups;
    p.a = plain_matrix(a.w.ptr(), K, K), p.a_batch = g.O * K;
    p.b = image_matrix(a.dy.ptr(), a.s.C_out, g.P_out, window.first), p.b_batch = g.O * g.P_out;
    p.c = plain_matrix(buffers.matrix, window.stride(), window.stride()), p.c_batch = K * window.stride();
    if (p.N > 0) sgemm_tn(p, context);
    fold(u, buffers.matrix, window, region, a.dx.ptr(), Epilogue{}, context);
  });
}

void run(const Conv2dBackwardInput& a, const Context& context) {
  if (a.s.N == 0) return;
  const Buffers buffers = plan(a, context.workspace.data);
  if (buffers.form == Form::unfold_input)
    run_folded(a, buffers, context);
  else
    run_unfolded(a, buffers, context);
}

int64_t workspace_bytes(const Conv2dBackwardInput& a) { return plan(a, nullptr).bytes; }

}  // namespace backward_input_kernels

const Entry<Conv2dBackwardInput> conv2d_backward_input = {run, refuse_any_fusion<Conv2dBackwardInput>, workspace_bytes, nullptr};

}  // namespace warploom::v4
