// Maths    dW = dy * unfold(x)^T, or dW' = unfold(dy) * x^T where the output has fewer channels than the input (stride 1), or, for
//          three input channels (turns_over), dW^T = unfold(x) * dy^T.
// Layout   dy, x NCHW, both contiguous along the pixels that are summed over; partial sums [splits, groups, rows, columns].
// Owns     see gemm_nt.cu, unfold.cu; this file chooses, chains, and splits the long sum over pixels so that all blocks have
//          work.
// Bound    the matrix product. Later windows add to the partial sums; these are summed once, in the order of the splits.
// Needs    a plain convolution; fewer than 2^31 elements an image.
#include <utility>

#include "plan.h"

namespace warploom::v4 {
inline namespace backward_weight_kernels {

constexpr int64_t kPartialBytes = int64_t(8) << 20;
constexpr int64_t kSplitBlocks = 2 * kFillBlocks;  // two blocks to hide each other's latencies
constexpr int64_t kLeastSplit = 256;               // pixels: below that, the partial sums cost more than they save

struct Buffers {
  Form form;
  int64_t columns;  // of the widest piece
  int splits;       // of the widest piece
  int64_t length;   // pixels of a split
  bool over;        // turned over: dW^T = unfold(x) * dy^T
  bool in_place;    // dw itself takes the only partial sum
  float *matrix, *partial;
  int64_t bytes;
};

Buffers plan(const Conv2dBackwardWeight& a, void* base) {
  Carver space(base);
  Buffers b{choose_form(a.s, Direction::backward_weight), 0, 1, 0, false, false, nullptr, nullptr, 0};
  const GroupShape g(a.s);
  const bool turned = b.form == Form::unfold_output;
  const int64_t total = a.s.N * (turned ? g.P_in : g.P_out);
  if (b.form == Form::direct) {
    b.columns = std::min(total, int64_t(1) << 30);
  } else {
    const Unfold u = turned ? unfold_output(a.s) : unfold_input(a.s);
    b.columns = window_columns(u.rows(), total);
    b.matrix = space.take(u.rows() * padded(b.columns));
  }
  b.over = turns_over(a.s, b.form);
  int64_t M = turned ? int64_t(g.O) * g.taps : g.O, N = turned ? g.I : int64_t(g.I) * g.taps;
  if (b.over) std::swap(M, N);
  const bool narrow = M <= TileWide::BM, low = N <= TileHigh::BN;
  const int64_t tiles = gemm_tiles(M, N, g.groups, narrow ? TileWide::BM : 128, low && !narrow ? TileHigh::BN : 128);
  const int64_t wanted = (kSplitBlocks + tiles - 1) / tiles, held = std::max<int64_t>(1, kPartialBytes / (4 * a.s.w_count()));
  const int64_t splits = std::max<int64_t>(1, std::min({wanted, held, b.columns / kLeastSplit}));
  b.length = std::max<int64_t>(8, ((b.columns + splits - 1) / splits + 7) / 8 * 8);  // of an empty batch: no division by 0
  b.splits = static_cast<int>((b.columns + b.length - 1) / b.length);
  b.in_place = b.splits == 1 && !turned && !b.over;
  if (!b.in_place) b.partial = space.take(b.splits * a.s.w_count());
  b.bytes = space.bytes();
  return b;
}

void run(const Conv2dBackwardWeight& a, const Context& context) {
  const GroupShape g(a.s);
  Buffers b = plan(a, context.workspace.data);
  const bool turned = b.form == Form::unfold_output;
  if (b.in_place) b.partial = a.dw.ptr();
  if (a.s.N == 0) return sum_weight_gradient(g.groups, g.O, g.I, g.taps, 0, false, nullptr, a.dw.ptr(), context);
  const int64_t total = a.s.N * (turned ? g.P_in : g.P_out), K = int64_t(g.I) * g.taps;
  for (int64_t first = 0; first < total; first += b.columns) {
    const Window window{first, static_cast<int>(std::min(b.columns, total - first))};
    const MatrixView<const float> dy = image_matrix(a.dy.ptr(), a.s.C_out, g.P_out, first);
    const MatrixView<const float> x = image_matrix(a.x.ptr(), a.s.C_in, g.P_in, first);
    GemmProblem p;
    p.M = turned ? g.O * g.taps : g.O, p.N = turned ? g.I : static_cast<int>(K), p.K = window.count, p.batch = g.groups;
    p.a = dy, p.a_batch = g.O * g.P_out;
    p.b = x, p.b_batch = g.I * g.P_in;
    if (turned) {
      unfold(unfold_output(a.s), a.dy.ptr(), window, b.matrix, context);
      p.a = plain_matrix_like<const float>(x, b.matrix, window.stride()), p.a_batch = p.M * window.stride();
    } else if (b.form == Form::unfold_input) {
      unfold(unfold_input(a.s), a.x.ptr(), window, b.matrix, context);
      p.b = plain_matrix_like<const float>(dy, b.matrix, window.stride()), p.b_batch = K * window.stride();
    }
    if (b.over) std::swap(p.a, p.b), std::swap(p.a_batch, p.b_batch), std::swap(p.M, p.N);
    p.c = plain_matrix(b.partial, p.N, p.N), p.c_batch = int64_t(p.M) * p.N, p.c_split = a.s.w_count();
    p.splits = static_cast<int>((window.count + b.length - 1) / b.length), p.split_length = static_cast<int>(b.length);
    p.accumulate = first > 0;
    sgemm_nt(p, context);
  }
  if (b.in_place) return;
  if (b.over)  // partial [splits, groups, K, O]
    sum_weight_gradient(g.groups, 1, g.O, static_cast<int>(K), b.splits, true, b.partial, a.dw.ptr(), context);
  else
    sum_weight_gradient(g.groups, g.O, g.I, g.taps, b.splits, turned, b.partial, a.dw.ptr(), context);
}

int64_t workspace_bytes(const Conv2dBackwardWeight& a) { return plan(a, nullptr).bytes; }

}  // namespace backward_weight_kernels

const Entry<Conv2dBackwardWeight> conv2d_backward_weight = {run, refuse_any_fusion<Conv2dBackwardWeight>, workspace_bytes,
                                                            nullptr};

}  // namespace warploom::v4
