// group_norm/kernels.cu: y = (x - mean) * inv_std * gamma[c] + beta[c], mean and inv_std of each sample's groups; and the gradients
// Layout: a map [N, C, inner] as args.h says. In NCHW a group is one run of C / groups * inner elements, in NHWC C / groups neighbours
//   at each position.
// Sums: a group (forward) or a channel of a sample (backward) is cut into slices, a block or warp owns one; sums in double and in a
//   fixed order. Elementwise: a block owns 1,024 neighbouring units (of four elements where shape and pointers allow) of one sample.
// One implementation for all versions. Expected bottleneck: memory bandwidth; x is read twice, the second time from cache where
//   it fits.
// Preconditions: see group_norm_error; workspace for the sums and for two numbers per group.
#include "../maps.cuh"
#include "../shared.h"
#include "kernels/common/reduce.cuh"
#include "preconditions.h"

namespace warploom::shared {

struct GroupMap {
  int64_t samples;
  int C, inner, groups, per_group;  // per_group: channels
  bool nhwc;
  FastDivisor group_channels;  // units across a group's channels (NHWC)
  int64_t sample() const { return static_cast<int64_t>(C) * inner; }
  int group_size() const { return per_group * inner; }
};

template <class Args>
static GroupMap group_map(const Args& a) {
  const int C = static_cast<int>(a.C), groups = static_cast<int>(a.groups);
  return {a.N, C, static_cast<int>(a.inner), groups, C / groups, a.layout == Layout::nhwc && a.inner > 1, {}};
}

// ---- Forward ----

// Slices of a group: enough blocks for a GPU, each with work to do. Of the shape alone.
static int forward_slices(const GroupMap& m) {
  const int64_t wanted = 512 / std::max<int64_t>(1, m.samples * m.groups) + 1, most = (m.group_size() + 4095) / 4096;
  return static_cast<int>(std::max<int64_t>(1, std::min(wanted, most)));
}

template <int kVector>
__global__ void group_norm_sums_kernel(GroupMap m, int slices, int slice_units,
                                       const float* __restrict__ x,     // the map
                                       double* __restrict__ partial) {  // [N * groups, slices, 2]
  const int64_t which = blockIdx.x / static_cast<unsigned>(slices);
  const int slice = static_cast<int>(blockIdx.x % static_cast<unsigned>(slices));
  const int64_t sample = which / m.groups;
  const int group = static_cast<int>(which % m.groups), units = m.per_group * m.inner / kVector;
  const float* base = x + sample * m.C * m.inner + static_cast<int64_t>(group) * m.per_group * (m.nhwc ? 1 : m.inner);
  const int end = min(units, (slice + 1) * slice_units);
  double sum = 0.0, squares = 0.0;
  for (int u = slice * slice_units + static_cast<int>(threadIdx.x); u < end; u += kThreads) {
    int64_t offset = static_cast<int64_t>(u) * kVector;
    if (m.nhwc) {
      const int position = m.group_channels.quotient(u);
      offset = static_cast<int64_t>(position) * m.C + m.group_channels.remainder(u, position) * kVector;
    }
    const Floats<kVector> f = load_floats<kVector>(base + offset);
    WL_UNROLL
    for (int e = 0; e < kVector; ++e) sum += f.v[e], squares += static_cast<double>(f.v[e]) * f.v[e];
  }
  sum = block_sum<kThreads>(sum);
  __syncthreads();  // block_sum's shared memory is still being read
  squares = block_sum<kThreads>(squares);
  if (threadIdx.x == 0)
    partial[2 * static_cast<int64_t>(blockIdx.x)] = sum, partial[2 * static_cast<int64_t>(blockIdx.x) + 1] = squares;
}

__global__ void group_norm_statistics_kernel(int64_t groups, int slices, double count, double eps,
                                             const double* __restrict__ partial,  // [groups, slices, 2]
                                             float* __restrict__ statistics,      // [groups, 2]: mean, inv_std
                                             float* __restrict__ mean,            // [groups] or null
                                             float* __restrict__ inv_std) {       // [groups] or null
  const int64_t g = static_cast<int64_t>(blockIdx.x) * kThreads + threadIdx.x;
  if (g >= groups) return;
  double sum = 0.0, squares = 0.0;
  for (int s = 0; s < slices; ++s) sum += partial[2 * (g * slices + s)], squares += partial[2 * (g * slices + s) + 1];
  const double centre = sum / count, variance = squares / count - centre * centre;
  const float m = static_cast<float>(centre);
  const float inv = static_cast<float>(1.0 / sqrt((variance < 0.0 ? 0.0 : variance) + eps));  // a NaN stays one
  statistics[2 * g] = m, statistics[2 * g + 1] = inv;
  if (mean) mean[g] = m;
  if (inv_std) inv_std[g] = inv;
}

// use(offset in the sample, group, channel) for the units of this block; sample, and the first unit, by the block's number.
struct SampleUnits {
  FastDivisor channel_units, inner_units, group_channels;  // units across all channels; in a plane; channels of a group
  int units, blocks;                                       // of a sample
};
template <int kVector>
static SampleUnits sample_units(const GroupMap& m) {
  const int units = static_cast<int>(m.sample() / kVector);
  return {FastDivisor(m.nhwc ? m.C / kVector : 1), FastDivisor(m.nhwc ? 1 : m.inner / kVector), FastDivisor(m.per_group), units,
          (units + kThreads * kUnits - 1) / (kThreads * kUnits)};
}
template <int kVector, class Use>
__device__ __forceinline__ void for_sample_units(const GroupMap& m, const SampleUnits& s, Use use) {
  const int64_t sample = blockIdx.x / static_cast<unsigned>(s.blocks);
  const int first = static_cast<int>(blockIdx.x % static_cast<unsigned>(s.blocks)) * (kThreads * kUnits);
  WL_UNROLL
  for (int k = 0; k < kUnits; ++k) {
    const int unit = first + k * kThreads + static_cast<int>(threadIdx.x);
    if (unit >= s.units) break;
    int channel;
    if (m.nhwc) {
      const int position = s.channel_units.quotient(unit);
      channel = s.channel_units.remainder(unit, position) * kVector;
    } else {
      channel = s.inner_units.quotient(unit);
    }
    const int64_t group = sample * m.groups + s.group_channels.quotient(channel);
    use(sample * m.C * m.inner + static_cast<int64_t>(unit) * kVector, group, channel);
  }
}

// kAcross: the elements of a unit belong to neighbouring channels (of one group), else to one channel.
template <int kVector, bool kAcross>
__global__ void group_norm_apply_kernel(GroupMap m, SampleUnits s, const float* __restrict__ x,  // the map
                                        const float* __restrict__ statistics,                    // [N * groups, 2]
                                        const float* __restrict__ gamma,                         // [C] or null
                                        const float* __restrict__ beta,                          // [C] or null
                                        float* __restrict__ y) {                                 // the map
  for_sample_units<kVector>(m, s, [=](int64_t offset, int64_t group, int channel) {
    const float mean = statistics[2 * group], inv_std = statistics[2 * group + 1];
    Floats<kVector> f = load_floats<kVector>(x + offset);
    const Floats<kVector> gain = load_channels<kVector, kAcross>(gamma, channel, 1.0f);
    const Floats<kVector> shift = load_channels<kVector, kAcross>(beta, channel, 0.0f);
    WL_UNROLL
    for (int e = 0; e < kVector; ++e) f.v[e] = (f.v[e] - mean) * (inv_std * gain.v[e]) + shift.v[e];
    store_floats<kVector>(y + offset, f);
  });
}

// f(integral_constant<kVector>, bool_constant<kAcross>) for the widest units: of one group, whatever the layout.
template <class F>
static void with_units(const GroupMap& m, bool aligned, F f) {
  const bool four = aligned && (m.nhwc ? m.per_group % 4 == 0 : m.inner % 4 == 0);
  if (four && m.nhwc)
    f(std::integral_constant<int, 4>(), std::true_type());
  else if (four)
    f(std::integral_constant<int, 4>(), std::false_type());
  else
    f(std::integral_constant<int, 1>(), std::false_type());
}

static int64_t forward_workspace(const GroupNormForward& a) {
  const int64_t groups = a.N * a.groups;
  return groups * (16 * forward_slices(group_map(a)) + 8);
}

static void run_forward(const GroupNormForward& a, const Context& context) {
  GroupMap m = group_map(a);
  const int64_t groups = m.samples * m.groups;
  if (groups == 0) return;
  const int slices = forward_slices(m);
  double* partial = context.workspace.ptr<double>();
  float* statistics = reinterpret_cast<float*>(partial + 2 * groups * slices);
  with_units(m, aligned16(a.x.data, a.y.data, a.gamma.data, a.beta.data), [&](auto vector, auto across) {
    constexpr int kVector = vector();
    m.group_channels = FastDivisor(m.nhwc ? m.per_group / kVector : 1);
    const int units = m.group_size() / kVector, slice_units = (units + slices - 1) / slices;
    launch(context, "shared::group_norm_sums_kernel", group_norm_sums_kernel<kVector>, dim3(blocks_for(groups * slices, 1)),
           dim3(kThreads), 0, m, slices, slice_units, a.x.ptr(), partial);
    launch(context, "shared::group_norm_statistics_kernel", group_norm_statistics_kernel, dim3(blocks_for(groups, kThreads)),
           dim3(kThreads), 0, groups, slices, static_cast<double>(m.group_size()), static_cast<double>(a.eps), partial,
           statistics, a.mean.ptr(), a.inv_std.ptr());
    const SampleUnits s = sample_units<kVector>(m);
    launch(context, "shared::group_norm_apply_kernel", group_norm_apply_kernel<kVector, across()>,
           dim3(blocks_for(m.samples * s.blocks, 1)), dim3(kThreads), 0, m, s, a.x.ptr(), statistics, a.gamma.ptr(), a.beta.ptr(),
           a.y.ptr());
  });
}

// ---- Backward ----

// Slices of a channel's positions: of the shape alone.
static int backward_slices(const GroupMap& m) {
  const int64_t blocks = m.samples * (m.nhwc ? (m.C + 31) / 32 : (m.C + 7) / 8);
  const int64_t wanted = 512 / std::max<int64_t>(1, blocks) + 1, most = (m.inner + 255) / 256;
  return static_cast<int>(std::max<int64_t>(1, std::min(wanted, most)));
}

// Sums of dy and dy * xhat per channel of a sample. NCHW: a warp owns one slice of one channel.
__global__ void group_norm_row_sums_kernel(GroupMap m, int slices, int slice_length,
                                           const float* __restrict__ dy,       // [N, C, inner]
                                           const float* __restrict__ x,        // [N, C, inner]
                                           const float* __restrict__ mean,     // [N, groups]
                                           const float* __restrict__ inv_std,  // [N, groups]
                                           double* __restrict__ partial) {     // [N, slices, C, 2]
  const int64_t task = static_cast<int64_t>(blockIdx.x) * (kThreads / 32) + threadIdx.x / 32;
  if (task >= m.samples * slices * m.C) return;
  const int channel = static_cast<int>(task % m.C);
  const int64_t outer = task / m.C, sample = outer / slices, group = sample * m.groups + channel / m.per_group;
  const int slice = static_cast<int>(outer % slices), end = min(m.inner, (slice + 1) * slice_length);
  const float centre = mean[group], inv = inv_std[group];
  const int64_t base = (sample * m.C + channel) * m.inner;
  double sum = 0.0, product = 0.0;
  for (int i = slice * slice_length + static_cast<int>(threadIdx.x % 32); i < end; i += 32) {
    const float g = dy[base + i];
    sum += g, product += static_cast<double>(g) * ((x[base + i] - centre) * inv);
  }
  sum = warp_sum(sum), product = warp_sum(product);
  if (threadIdx.x % 32 == 0) partial[2 * task] = sum, partial[2 * task + 1] = product;
}

// NHWC: a block owns 32 channels of one slice, eight positions at a time.
__global__ void group_norm_column_sums_kernel(GroupMap m, int slices, int slice_length,
                                              const float* __restrict__ dy,       // [N, inner, C]
                                              const float* __restrict__ x,        // [N, inner, C]
                                              const float* __restrict__ mean,     // [N, groups]
                                              const float* __restrict__ inv_std,  // [N, groups]
                                              double* __restrict__ partial) {     // [N, slices, C, 2]
  WL_SHARED(double, sums, [8][32][2]);
  const int lane = static_cast<int>(threadIdx.x % 32), row = static_cast<int>(threadIdx.x / 32);
  const int tiles = (m.C + 31) / 32;
  const int channel = static_cast<int>(blockIdx.x % static_cast<unsigned>(tiles)) * 32 + lane;
  const int64_t outer = blockIdx.x / static_cast<unsigned>(tiles), sample = outer / slices;
  const int slice = static_cast<int>(outer % slices), end = min(m.inner, (slice + 1) * slice_length);
  double sum = 0.0, product = 0.0;
  if (channel < m.C) {
    const int64_t group = sample * m.groups + channel / m.per_group;
    const float centre = mean[group], inv = inv_std[group];
    for (int i = slice * slice_length + row; i < end; i += 8) {
      const int64_t offset = (sample * m.inner + i) * m.C + channel;
      const float g = dy[offset];
      sum += g, product += static_cast<double>(g) * ((x[offset] - centre) * inv);
    }
  }
  sums[row][lane][0] = sum, sums[row][lane][1] = product;
  __syncthreads();
  if (row > 0 || channel >= m.C) return;
  for (int r = 1; r < 8; ++r) sum += sums[r][lane][0], product += sums[r][lane][1];
  partial[2 * (outer * m.C + channel)] = sum, partial[2 * (outer * m.C + channel) + 1] = product;
}

// Per group: the means of g = dy * gamma and of g * xhat. A warp owns a group.
__global__ void group_norm_means_kernel(GroupMap m, int slices, const double* __restrict__ partial,  // [N, slices, C, 2]
                                        const float* __restrict__ gamma,                             // [C] or null
                                        float* __restrict__ means) {                                 // [N * groups, 2]
  const int64_t which = static_cast<int64_t>(blockIdx.x) * (kThreads / 32) + threadIdx.x / 32;
  if (which >= m.samples * m.groups) return;
  const int64_t sample = which / m.groups;
  const int first = static_cast<int>(which % m.groups) * m.per_group;
  double sum = 0.0, product = 0.0;
  for (int c = static_cast<int>(threadIdx.x % 32); c < m.per_group; c += 32) {
    const double gain = gamma ? gamma[first + c] : 1.0f;
    for (int s = 0; s < slices; ++s) {
      const int64_t at = 2 * ((sample * slices + s) * m.C + first + c);
      sum += gain * partial[at], product += gain * partial[at + 1];
    }
  }
  sum = warp_sum(sum), product = warp_sum(product);
  const double count = static_cast<double>(m.per_group) * m.inner;
  if (threadIdx.x % 32 == 0)
    means[2 * which] = static_cast<float>(sum / count), means[2 * which + 1] = static_cast<float>(product / count);
}

// dgamma and dbeta: a thread owns a channel.
__global__ void group_norm_parameters_kernel(int64_t outer, int C, const double* __restrict__ partial,  // [outer, C, 2]
                                             float* __restrict__ dgamma,                                // [C] or null
                                             float* __restrict__ dbeta) {                               // [C] or null
  const int c = static_cast<int>(blockIdx.x * kThreads + threadIdx.x);
  if (c >= C) return;
  double sum = 0.0, product = 0.0;
  for (int64_t o = 0; o < outer; ++o) sum += partial[2 * (o * C + c)], product += partial[2 * (o * C + c) + 1];
  if (dgamma) dgamma[c] = static_cast<float>(product);
  if (dbeta) dbeta[c] = static_cast<float>(sum);
}

template <int kVector, bool kAcross>
__global__ void group_norm_gradient_kernel(GroupMap m, SampleUnits s, const float* __restrict__ dy,  // the map
                                           const float* __restrict__ x,                              // the map
                                           const float* __restrict__ mean,                           // [N, groups]
                                           const float* __restrict__ inv_std,                        // [N, groups]
                                           const float* __restrict__ means,                          // [N * groups, 2]
                                           const float* __restrict__ gamma,                          // [C] or null
                                           float* __restrict__ dx) {                                 // the map
  for_sample_units<kVector>(m, s, [=](int64_t offset, int64_t group, int channel) {
    const float centre = mean[group], inv = inv_std[group], of_g = means[2 * group], of_product = means[2 * group + 1];
    Floats<kVector> g = load_floats<kVector>(dy + offset);
    const Floats<kVector> f = load_floats<kVector>(x + offset);
    const Floats<kVector> gain = load_channels<kVector, kAcross>(gamma, channel, 1.0f);
    WL_UNROLL
    for (int e = 0; e < kVector; ++e) g.v[e] = inv * (g.v[e] * gain.v[e] - of_g - (f.v[e] - centre) * inv * of_product);
    store_floats<kVector>(dx + offset, g);
  });
}

static int64_t backward_workspace(const GroupNormBackward& a) {
  return 16 * a.N * backward_slices(group_map(a)) * a.C + 8 * a.N * a.groups;
}

static void run_backward(const GroupNormBackward& a, const Context& context) {
  const GroupMap m = group_map(a);
  const int slices = backward_slices(m), slice_length = (m.inner + slices - 1) / slices;
  const int64_t outer = m.samples * slices;
  double* partial = context.workspace.ptr<double>();
  float* means = reinterpret_cast<float*>(partial + 2 * outer * m.C);
  if (m.nhwc)
    launch(context, "shared::group_norm_column_sums_kernel", group_norm_column_sums_kernel,
           dim3(blocks_for(outer * ((m.C + 31) / 32), 1)), dim3(kThreads), 0, m, slices, slice_length, a.dy.ptr(), a.x.ptr(),
           a.mean.ptr(), a.inv_std.ptr(), partial);
  else
    launch(context, "shared::group_norm_row_sums_kernel", group_norm_row_sums_kernel,
           dim3(blocks_for(outer * m.C, kThreads / 32)), dim3(kThreads), 0, m, slices, slice_length, a.dy.ptr(), a.x.ptr(),
           a.mean.ptr(), a.inv_std.ptr(), partial);
  if (a.dgamma || a.dbeta)
    launch(context, "shared::group_norm_parameters_kernel", group_norm_parameters_kernel, dim3(blocks_for(m.C, kThreads)),
           dim3(kThreads), 0, outer, m.C, partial, a.dgamma.ptr(), a.dbeta.ptr());
  if (!a.dx) return;
  launch(context, "shared::group_norm_means_kernel", group_norm_means_kernel,
         dim3(blocks_for(m.samples * m.groups, kThreads / 32)), dim3(kThreads), 0, m, slices, partial, a.gamma.ptr(), means);
  with_units(m, aligned16(a.dy.data, a.x.data, a.dx.data, a.gamma.data), [&](auto vector, auto across) {
    constexpr int kVector = vector();
    const SampleUnits s = sample_units<kVector>(m);
    launch(context, "shared::group_norm_gradient_kernel", group_norm_gradient_kernel<kVector, across()>,
           dim3(blocks_for(m.samples * s.blocks, 1)), dim3(kThreads), 0, m, s, a.dy.ptr(), a.x.ptr(), a.mean.ptr(),
           a.inv_std.ptr(), means, a.gamma.ptr(), a.dx.ptr());
  });
}

Entry<GroupNormForward> group_norm_forward() {
  return {run_forward, group_norm_error<GroupNormForward>, forward_workspace, nullptr};
}
Entry<GroupNormBackward> group_norm_backward() {
  return {run_backward, group_norm_error<GroupNormBackward>, backward_workspace, nullptr};
}

}  // namespace warploom::shared
