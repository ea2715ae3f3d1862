// gaussian_sample on the host: vectors of Philox counters draw the words, the rest is scalar. Latents are small beside the maps
// around them.
#include <cmath>

#include "csrc/cpu/draws.h"
#include "csrc/cpu/entries.h"
#include "preconditions.h"
#define WL_NORMAL WL_INLINE
#include "../normal.h"
#include "places.h"

namespace warploom::cpu {
namespace {

// body(place of an element, its draw); 0 where nothing is drawn.
template <class Args, class Body>
void for_samples(const Args& a, Body&& body) {
  const int64_t total = a.N * a.C * a.inner;
  const SamplePlaces places = {a.C, a.inner, a.layout == Layout::nhwc ? a.C : a.C * a.inner, a.layout == Layout::nhwc};
  const bool draws = a.draws && a.step;
  const uint32_t step = draws ? static_cast<uint32_t>(*a.step.template ptr<int>()) : 0u;
  parallel_blocks(total, 4096, [&](int64_t begin, int64_t end, int) {  // 4096: a multiple of kDraws
    alignas(64) uint32_t words[kDraws];
    float drawn[kDraws] = {};
    for (int64_t q = begin; q < end; q += kDraws) {
      if (draws) {
        draw([=](int b) { return static_cast<uint64_t>(q / 4 + b); }, step, static_cast<uint32_t>(a.stream),
             static_cast<uint32_t>(a.seed), static_cast<uint32_t>(static_cast<uint64_t>(a.seed) >> 32), words);
        for (int e = 0; e < kDraws; e += 2) normal_pair(words[e], words[e + 1], drawn + e, drawn + e + 1);
      }
      for (int e = 0; e < kDraws && q + e < end; ++e) body(places.of(q + e), places.apart, drawn[e]);
    }
  });
}

void run_forward(const GaussianSample& a, const Context&) {
  const float* x = a.x.ptr();
  float* y = a.y.ptr();
  const bool draws = a.draws && a.step;
  for_samples(a, [=](SamplePlace at, int64_t apart, float drawn) {
    y[at.y] = draws ? std::fmaf(std::exp(0.5f * x[at.mean + apart]), drawn, x[at.mean]) : x[at.mean];
  });
}

void run_backward(const GaussianSampleBackward& a, const Context&) {
  const float *x = a.x.ptr(), *dy = a.dy.ptr();
  float* dx = a.dx.ptr();
  const bool draws = a.draws && a.step;
  for_samples(a, [=](SamplePlace at, int64_t apart, float drawn) {
    const float d = dy[at.y];
    dx[at.mean] = d;
    dx[at.mean + apart] = draws ? d * (0.5f * drawn * std::exp(0.5f * x[at.mean + apart])) : 0.0f;
  });
}

}  // namespace

Entry<GaussianSample> gaussian_sample() { return {run_forward, gaussian_sample_error<GaussianSample>, nullptr, nullptr}; }
Entry<GaussianSampleBackward> gaussian_sample_backward() {
  return {run_backward, gaussian_sample_error<GaussianSampleBackward>, nullptr, nullptr};
}

}  // namespace warploom::cpu
