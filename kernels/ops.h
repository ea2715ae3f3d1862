// ops.h - the contract between the engine and the kernels.
//
// The engine fills an argument struct and calls an entry of an OpTable; a kernel set ("version") fills the table. Nothing here
// knows CUDA, the emulator or the engine. Activations stand in the version's layout (OpTable::layout), weights in OpTable::weight_layout.
// Every output is written whole ("=", never "+="), whatever was in it before.
#pragma once

#include "args.h"
#include "errand.h"
#include "ops/activation/args.h"
#include "ops/adabelief_update/args.h"
#include "ops/adam_update/args.h"
#include "ops/add/args.h"
#include "ops/augment_images/args.h"
#include "ops/avg_pool2d/args.h"
#include "ops/batch_norm/args.h"
#include "ops/bias_activation/args.h"
#include "ops/concat/args.h"
#include "ops/conv2d/args.h"
#include "ops/conv2d_mean/args.h"
#include "ops/cross_entropy_loss/args.h"
#include "ops/depth_to_space/args.h"
#include "ops/dice_loss/args.h"
#include "ops/dropout/args.h"
#include "ops/ema_update/args.h"
#include "ops/gather_images/args.h"
#include "ops/gaussian_sample/args.h"
#include "ops/gradient_norm/args.h"
#include "ops/group_norm/args.h"
#include "ops/huber_loss/args.h"
#include "ops/kl_loss/args.h"
#include "ops/layout_convert/args.h"
#include "ops/lion_update/args.h"
#include "ops/max_pool2d/args.h"
#include "ops/mse_loss/args.h"
#include "ops/multiply/args.h"
#include "ops/pointwise_loss/args.h"
#include "ops/rms_norm/args.h"
#include "ops/rmse_loss/args.h"
#include "ops/rmsprop_update/args.h"
#include "ops/sgd_update/args.h"
#include "ops/ssim_loss/args.h"
#include "ops/upsample/args.h"
#include "ops/upsample_weights/args.h"
#include "ops/winner_take_all/args.h"

namespace warploom {

struct DeviceInfo {
  std::string name;                          // as the driver or /proc/cpuinfo says
  int compute_major = 0, compute_minor = 0;  // cuda; the emulator reports 9.0
  int multiprocessors = 1;                   // cpu and emulator: worker threads
  int64_t shared_bytes_per_block = 0;        // static limit (48 KiB)
  int64_t shared_bytes_optin = 0;            // dynamic limit
  int64_t memory_bytes = 0;
};

struct Context {  // what a launcher gets besides its arguments
  void* stream = nullptr;
  InOut workspace;  // at least workspace_bytes() of the entry; contents undefined before and after
  const DeviceInfo* device = nullptr;
};

template <class Args>
struct Entry {
  void (*run)(const Args&, const Context&) = nullptr;  // nullptr: the kernel set has no such entry
  std::string (*why_not)(const Args&) = nullptr;  // "" takes it, else one sentence naming the precondition; nullptr: takes all
  int64_t (*workspace_bytes)(const Args&) = nullptr;  // nullptr: none
  int64_t (*saved_bytes)(const Args&) = nullptr;      // forward entries: bytes kept for backward; nullptr: none
  const char* (*algorithm)(const Args&) = nullptr;    // which of several ways it takes, for reports; nullptr: there is one
  // What it does to its weights first, unless Args::prepared holds the result: from is w, to has its bytes and no place yet. nullptr:
  // nothing.
  Errand (*preparation)(const Args&) = nullptr;
  // What it does last, unless Args::sums is given: it then fills that and leaves the rest to whoever gave it. nullptr: nothing.
  Rest (*rest)(const Args&) = nullptr;
};

struct OpTable {
  const char* version = "";  // name and summary of a kernel version: from versions.def, by library.cu
  const char* summary = "";
  const char* float32_from = "";  // the version whose float32 convolutions it takes over; "": it has its own
  int compute_capability = 0;     // the only one it runs on, as 90 for 9.0; 0: any
  Layout layout = Layout::nchw;
  WeightLayout weight_layout = WeightLayout::oihw;
  // Whether the gradients of a convolution read y where an activation is folded in; else they take what they need from `saved`.
  bool gradients_read_y = false;
  // At most kMostErrands, whose results none of them reads; nullptr where no entry has a preparation. update: what they write of its
  // gradients moves the weights (its scale is 1); nullptr: none.
  void (*run_errands)(const Errand* errands, int count, const SgdUpdate* update, const Context&) = nullptr;
#define WL_OP(name, Args) Entry<Args> name;
#include "ops.def"
#undef WL_OP
};

}  // namespace warploom
