// Maths    y = activation(W * unfold(x) + bias), or y = activation(fold(W' * x) + bias) where the output has far fewer channels.
// Layout   x, y NCHW; w oihw, which is [C_out, K] as it stands; columns [K, pixels of several images].
// Owns     see gemm_nn.cu, unfold.cu, fold.cu; this file only chooses and chains them.
// Bound    the matrix product for the usual layers.
// New      in v4: one register-tiled product serves every kernel size and stride.
// Needs    no pool or upsample folded in; fewer than 2^31 elements an image.
#include "plan.h"

namespace warploom::v4 {
inline namespace forward_kernels {

std::string why_not(const Conv2dForward& a) {
  if (a.fusion.pool != 1 || a.fusion.upsample != 1)
    return "v4 folds only the activation into a convolution; run the max pool and the upsample as operations of their own";
  return conv2d_error(a);
}

struct Buffers {
  Form form;
  int64_t columns;  // of the widest piece
  float *matrix, *turned;
  int64_t bytes;
};

Buffers plan(const Conv2dForward& a, void* base) {
  Carver space(base);
  Buffers b{choose_form(a.s, Direction::forward), 0, nullptr, nullptr, 0};
  const GroupShape g(a.s);
  if (b.form == Form::direct) {
    b.columns = std::min(a.s.N * g.P_out, int64_t(1) << 30);
  } else if (b.form == Form::unfold_input) {
    const Unfold u = unfold_input(a.s);
    b.columns = window_columns(u.rows(), a.s.N * g.P_out);
    b.matrix = space.take(u.rows() * padded(b.columns));
  } else {
    const Unfold u = unfold_output(a.s);
    b.columns = fold_pieces(u, a.s.N).columns;
    b.turned = space.take(a.s.w_count());
    b.matrix = space.take(u.rows() * padded(b.columns));
  }
  if (turns_over(a.s, b.form)) b.turned = space.take(a.s.w_count());
  b.bytes = space.bytes();
  return b;
}

// W [O, I * taps] times the unfolded input, window by window; the epilogue runs in the product.
void run_unfolded(const Conv2dForward& a, const Buffers& buffers, const Epilogue& epilogue, const Context& context) {
  const GroupShape g(a.s);
  const int64_t total = a.s.N * g.P_out, K = int64_t(g.I) * g.taps;
  if (buffers.turned) turn_weights(g.groups, 1, g.O, static_cast<int>(K), a.w.ptr(), buffers.turned, context);  // [K, O]
  for (int64_t first = 0; first < total; first += buffers.columns) {
    const Window window{first, static_cast<int>(std::min(buffers.columns, total - first))};
    GemmProblem p;
    p.M = g.O, p.N = window.count, p.K = static_cast<int>(K), p.batch = g.groups;
    p.a = buffers.turned ? plain_matrix<const float>(buffers.turned, g.O, g.O) : plain_matrix(a.w.ptr(), K, K);
    p.a_batch = g.O * K;
    if (buffers.form == Form::direct) {
      p.b = image_matrix(a.x.ptr(), a.s.C_in, g.P_in, first), p.b_batch = g.I * g.P_in;
    } else {
      unfold(unfold_input(a.s), a.x.ptr(), window, buffers.matrix, context);
      p.b = plain_matrix<const float>(buffers.matrix, window.stride(), window.stride()), p.b_batch = K * window.stride();
    }
    p.c = image_matrix(a.y.ptr(), a.s.C_out, g.P_out, first), p.c_batch = g.O * g.P_out;
    p.epilogue = epilogue, p.bias_batch = g.O;
    (buffers.turned ? sgemm_tn : sgemm_nn)(p, context);
  }
}

// W' [O * taps, I] times the input as it stands, then the taps are folded together; the epilogue runs in the fold.
void run_folded(const Conv2dForward& a, const Buffers& buffers, const Epilogue& epilogue, const Context& context) {
  const GroupShape g(a.s);
  const Unfold u = unfold_output(a.s);
  turn_weights(g.groups, g.O, g.I, g.taps, a.w.ptr(), buffers.turned, context);
  for_each_piece(u, a.s.N, [&](const FoldRegion& region, const Window& window) {
    GemmProblem p;
    p.M = g.O * g.taps, p.N = window.count, p.K = g.I, p.batch = g.groups;
    p.a = plain_matrix<const float>(buffers.turned, g.I, g.I), p.a_batch = int64_t(p.M) * g.I;
    p.b = image_matrix(a.x.ptr(), a.s.C_in, g.P_in, window.first), p.b_batch = g.I * g.P_in;
    p.c = plain_matrix(buffers.matrix, window.stride(), window.stride()), p.c_batch = p.M * window.stride();
    if (p.N > 0) sgemm_nn(p, context);
    fold(u, buffers.matrix, window, region, a.y.ptr(), epilogue, context);
  });
}

void run(const Conv2dForward& a, const Context& context) {
  if (a.s.N == 0) return;
  const Buffers buffers = plan(a, context.workspace.data);
  const Epilogue epilogue{a.bias.ptr(), a.fusion.activation, a.fusion.negative_slope};
  if (buffers.form == Form::unfold_output)
    run_folded(a, buffers, epilogue, context);
  else
    run_unfolded(a, buffers, epilogue, context);
}

int64_t workspace_bytes(const Conv2dForward& a) { return plan(a, nullptr).bytes; }

}  // namespace forward_kernels

const Entry<Conv2dForward> conv2d_forward = {run, why_not, workspace_bytes, nullptr};

}  // namespace warploom::v4
