// algorithm.h - inside v5: the ways of an entry as one list, from which everything that is asked of the entry is answered: whether it
// takes a call, what memory it wants, what it is called in reports, and what runs. Only shapes decide: a plan asks before there are
// addresses, and what it was told must be what runs. Host code only.
#pragma once

#include "../v2_tiled_nhwc/table.h"
#include "choice.h"
#include "gradient_scale.cuh"
#include "table.h"

namespace warploom::v5 {

// One way to compute a call on tensor cores.
template <class Args>
struct Algorithm {
  const char* names[3];                                          // with operands of tf32, bf16 and fp16
  std::string (*why_not)(const Args&);                           // "" takes it, else why this way does not
  void (*run)(const Args&, const Context&, const float* scale);  // scale: of fp16 gradients, else null
  int64_t (*workspace_bytes)(const Args&);                       // nullptr: none
  Errand (*preparation)(const Args&) = nullptr;                  // nullptr: none
  Rest (*rest)(const Args&) = nullptr;                           // nullptr: none; its memory is the workspace, or Args::sums
};

// The entry that Ways describes:
//   Args; kEntry: where it stands in a table
//   list(): the algorithms, the first that takes a call computes it; the last takes whatever refusal() lets pass
//   refusal(a): why the tensor cores do not compute the call, by no algorithm; "": they do
//   gradient(a): what fp16 scales to its range (In with its bytes); empty: nothing
//   saved_bytes(a)
template <class Ways>
struct Listed {
  using Args = typename Ways::Args;
  static constexpr bool kLeaves = std::is_same_v<Args, Conv2dBackwardWeight>;

  static const Algorithm<Args>& chosen(const Args& a) {
    const auto& list = Ways::list();
    for (const Algorithm<Args>& way : list)
      if (&way == std::end(list) - 1 || way.why_not(a).empty()) return way;
    throw DeviceError("v5 has an entry without an algorithm");
  }
  static const Entry<Args>& of_v2() { return v2::table().*Ways::kEntry; }
  static bool scales(const Args& a) { return Ways::kGradient && a.fusion.precision == Precision::fp16; }

  static void run(const Args& a, const Context& context) {
    if (!on_tensor_cores(a)) return of_v2().run(in_float32(a), context);
    require_tensor_cores(a.fusion.precision, context);
    Context rest = context;
    float* scale = nullptr;
    if (scales(a)) {
      scale = context.workspace.ptr();
      const In gradient = Ways::gradient(a);
      find_gradient_scale(context, gradient.ptr(), gradient.bytes / 4, scale);
      rest.workspace = InOut{scale + kScaleBytes / 4, context.workspace.bytes - kScaleBytes};
    }
    const Algorithm<Args>& way = chosen(a);
    way.run(a, rest, scale);
    if constexpr (kLeaves)
      if (way.rest && !a.sums) do_rest(way.rest(a), rest.workspace.data, context);
  }
  static std::string why_not(const Args& a) {
    return on_tensor_cores(a) ? Ways::refusal(a) : left_to_v2(a, of_v2().why_not(in_float32(a)));
  }
  static int64_t workspace_bytes(const Args& a) {
    if (!on_tensor_cores(a)) return of_v2().workspace_bytes ? of_v2().workspace_bytes(in_float32(a)) : 0;
    const Algorithm<Args>& way = chosen(a);
    int64_t bytes = (scales(a) ? kScaleBytes : 0) + (way.workspace_bytes ? way.workspace_bytes(a) : 0);
    if constexpr (kLeaves)
      if (!a.sums) bytes += way.rest(a).bytes;
    return bytes;
  }
  static int64_t saved_bytes(const Args& a) { return on_tensor_cores(a) ? Ways::saved_bytes(a) : 0; }
  static const char* algorithm(const Args& a) {
    if (wants_float32(a.fusion)) return "float32 (v2)";
    if (small_groups(a.s)) return "float32 (v2): groups too small for tensor cores";
    const auto& names = chosen(a).names;
    return a.fusion.precision == Precision::tf32 ? names[0] : a.fusion.precision == Precision::bf16 ? names[1] : names[2];
  }
  static Errand preparation(const Args& a) {
    if (!on_tensor_cores(a)) return {};
    const Algorithm<Args>& way = chosen(a);
    return way.preparation ? way.preparation(a) : Errand();
  }
  static Rest rest(const Args& a) {
    const Algorithm<Args>* way = on_tensor_cores(a) ? &chosen(a) : nullptr;
    return way && way->rest ? way->rest(a) : Rest();
  }
  static Entry<Args> entry() { return {run, why_not, workspace_bytes, saved_bytes, algorithm, preparation, rest}; }
};

// The names of an algorithm, by the operands' formats.
#define WL_MMA_NAMES(way) {"mma m16n8k8 tf32" way, "mma m16n8k16 bf16" way, "mma m16n8k16 fp16" way}

}  // namespace warploom::v5
