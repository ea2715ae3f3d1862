// dlpack.h - the structs of the DLPack protocol (https://dmlc.github.io/dlpack), version 1.0: how array libraries hand over memory.
//
// A producer wraps one of the two managed structs into a capsule named after it; who takes it renames the capsule and calls the
// deleter when done.
#pragma once

#include <cstdint>

namespace warploom::dlpack {

enum DeviceType : int32_t { kCpu = 1, kCuda = 2, kCudaHost = 3, kCudaManaged = 13 };
enum TypeCode : uint8_t { kInt = 0, kUInt = 1, kFloat = 2, kBfloat = 4, kBool = 6 };
constexpr uint64_t kReadOnly = 1, kIsCopied = 2;  // flags of the versioned struct
constexpr const char *kPlain = "dltensor", *kPlainTaken = "used_dltensor";
constexpr const char *kVersioned = "dltensor_versioned", *kVersionedTaken = "used_dltensor_versioned";

struct Device {
  int32_t type, id;
};
struct DataType {
  uint8_t code, bits;
  uint16_t lanes;
};
struct Tensor {
  void* data;
  Device device;
  int32_t ndim;
  DataType dtype;
  int64_t *shape, *strides;  // strides in elements; nullptr: C order
  uint64_t byte_offset;
};
struct Managed {
  Tensor tensor;
  void* context;
  void (*deleter)(Managed*);
};
struct ManagedVersioned {
  uint32_t major, minor;
  void* context;
  void (*deleter)(ManagedVersioned*);
  uint64_t flags;
  Tensor tensor;
};

}  // namespace warploom::dlpack
