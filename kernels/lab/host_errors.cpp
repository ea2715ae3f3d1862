// host_errors.cpp - the errors of the CUDA runtime API: remembered as CUDA does, and reported where the program made a mistake or does not
// look.
#include "state.h"

namespace warploom {
namespace lab {
namespace {

cudaError_t last_error = cudaSuccess;
bool next_is_discarded = false;

}  // namespace

void discarded() { next_is_discarded = true; }
void remember_error(cudaError_t error) { last_error = error; }
bool given_up() { return false; }  // the program ends with the kernel that could not go on: see stop()

Call::Call(const char* name_, const Site& site_) : name(name_), site(site_), looked_at(!next_is_discarded) {
  next_is_discarded = false;
}

cudaError_t Call::misused(const char* code, cudaError_t error, const std::string& message) const {
  report("error", code, site, message);
  remember_error(error);
  return error;
}

cudaError_t Call::fails(cudaError_t error, const std::string& message) const {
  if (!looked_at) report("error", "unchecked-error", site, message + "; the program does not look at the result of " + name);
  remember_error(error);
  return error;
}

}  // namespace lab
}  // namespace warploom

using namespace warploom::lab;

const char* cudaGetErrorString(cudaError_t error) {
  switch (error) {
#define WL_ERROR(name, number, text) \
  case name:                         \
    return text;
    WL_CUDA_ERRORS(WL_ERROR)
#undef WL_ERROR
  }
  return "unrecognized error code";
}
const char* cudaGetErrorName(cudaError_t error) {
  switch (error) {
#define WL_ERROR(name, number, text) \
  case name:                         \
    return #name;
    WL_CUDA_ERRORS(WL_ERROR)
#undef WL_ERROR
  }
  return "unrecognized error code";
}
cudaError_t cudaGetLastError() {
  const cudaError_t error = last_error;
  last_error = cudaSuccess;
  return error;
}
cudaError_t cudaPeekAtLastError() { return last_error; }
