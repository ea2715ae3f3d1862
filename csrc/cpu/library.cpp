// library.cpp - what this library exports: the host device and the kernel set "cpu".
//
// Compiled for the baseline instruction set, like threads.cpp and host_device.cpp: this code runs before anything has checked
// that the CPU has the instructions the other files were compiled for.
#include "entries.h"
#include "kernels/common/preconditions.h"
#include "threads.h"

#ifndef WARPLOOM_CPU_ISA
#define WARPLOOM_CPU_ISA "baseline"
#endif

namespace warploom::cpu {
namespace {

std::string missing_instructions() {
  const std::string isa = WARPLOOM_CPU_ISA;
  std::string missing;
#if defined(__x86_64__) || defined(__i386__)
  __builtin_cpu_init();
  auto need = [&](bool there, const char* name) {
    if (!there) missing += missing.empty() ? name : std::string(", ") + name;
  };
  if (isa == "avx2" || isa == "avx512") {
    need(__builtin_cpu_supports("avx2"), "AVX2");
    need(__builtin_cpu_supports("fma"), "FMA");
  }
  if (isa == "avx512") {
    need(__builtin_cpu_supports("avx512f"), "AVX-512F");
    need(__builtin_cpu_supports("avx512bw"), "AVX-512BW");
    need(__builtin_cpu_supports("avx512dq"), "AVX-512DQ");
    need(__builtin_cpu_supports("avx512vl"), "AVX-512VL");
  }
#endif
  return missing;
}

int count(std::string* why) {
  const std::string missing = missing_instructions();
  if (missing.empty()) return 1;
  if (why) *why = "this CPU lacks " + missing;
  return 0;
}

Device* open(int index) {
  std::string why;
  if (count(&why) == 0) throw DeviceError("cannot open the cpu device: " + why);
  return open_host_device(index);
}

const OpTable& table() {
  static const OpTable t = [] {
    OpTable t;
    t.version = "cpu";
    t.summary =
        "host: NHWC, fast bilinear schemes and a register-tiled GEMM in vector extensions, fused layers (" WARPLOOM_CPU_ISA ")";
    t.layout = Layout::nhwc;
    t.weight_layout = WeightLayout::hwio;
    t.gradients_read_y = true;
#define WL_OP(name, Args) t.name.run = name;
#define WL_SHARED_OP(name, Args) t.name = name();
#include "kernels/ops.def"
#undef WL_OP
    t.conv2d_forward.why_not = conv2d_forward_why_not;
    t.conv2d_forward.algorithm = conv2d_forward_algorithm;
    t.conv2d_forward.workspace_bytes = conv2d_forward_workspace;
    t.conv2d_forward.saved_bytes = conv2d_forward_saved;
    t.conv2d_backward_input.why_not = conv2d_backward_input_why_not;
    t.conv2d_backward_input.algorithm = conv2d_backward_input_algorithm;
    t.conv2d_backward_input.workspace_bytes = conv2d_backward_input_workspace;
    t.conv2d_backward_weight.why_not = conv2d_backward_weight_why_not;
    t.conv2d_backward_weight.algorithm = conv2d_backward_weight_algorithm;
    t.conv2d_backward_weight.workspace_bytes = conv2d_backward_weight_workspace;
    t.conv2d_backward_bias.why_not = conv2d_backward_bias_why_not;
    t.conv2d_backward_bias.algorithm = conv2d_backward_bias_algorithm;
    t.conv2d_backward_bias.workspace_bytes = conv2d_backward_bias_workspace;
    t.conv2d_backward.why_not = conv2d_backward_why_not;
    t.conv2d_backward.algorithm = conv2d_backward_algorithm;
    t.conv2d_backward.workspace_bytes = conv2d_backward_workspace;
    t.conv2d_mean_forward.why_not = conv2d_mean_forward_why_not;
    t.conv2d_mean_forward.workspace_bytes = conv2d_mean_forward_workspace;
    t.mse_loss.workspace_bytes = mse_loss_workspace;
    t.activation_forward.why_not = float32_map<ActivationForward>;
    t.activation_backward.why_not = float32_map<ActivationBackward>;
    t.add.why_not = float32_map<Add>;
    t.max_pool2d_forward.why_not = pool2d_shape<MaxPool2dForward>;
    t.max_pool2d_backward.why_not = pool2d_shape<MaxPool2dBackward>;
    t.upsample_forward.why_not = upsample_shape<UpsampleForward>;
    t.upsample_backward.why_not = upsample_shape<UpsampleBackward>;
    t.layout_convert.why_not = image_shape<LayoutConvert>;
    t.gather_images.why_not = gather_images_error;
    return t;
  }();
  return t;
}

}  // namespace
}  // namespace warploom::cpu

extern "C" WL_EXPORT const warploom::DeviceLibrary* warploom_device_library() {
  using namespace warploom;
  static const DeviceLibrary library = [] {
    DeviceLibrary l;
    l.kind = "cpu";
    l.count = cpu::count;
    l.open = cpu::open;
    if (cpu::count(nullptr) == 0) return l;  // making the table runs code that this CPU may lack the instructions for
    static const OpTable* const tables[] = {&cpu::table()};
    l.tables = tables;
    l.table_count = 1;
    return l;
  }();
  return &library;
}
