// module.cpp - one call of a kernel from Python: arrays come in a file and go back into it.
//
//   program describe             a line for each kernel: its name, a tab, the kinds of its parameters
//   program call PATH ARRAYS     PATH holds the kernel's name, then numbers: grid, block, bytes of dynamic shared memory, and for each
//                                argument "array OFFSET BYTES" (of the file ARRAYS), "null" or "bytes HEX"
#include <fcntl.h>
#include <sys/mman.h>
#include <unistd.h>

#include <fstream>
#include <sstream>

#include "include/warploom_module.h"
#include "state.h"

namespace warploom {
namespace lab {
namespace {

struct Argument {
  void* device = nullptr;
  size_t offset = 0, bytes = 0;
  std::string value;
  bool back = false;
};

std::string from_hex(const std::string& text) {
  std::string bytes;
  for (size_t i = 0; i + 1 < text.size(); i += 2) bytes += static_cast<char>(std::stoi(text.substr(i, 2), nullptr, 16));
  return bytes;
}

int call(const ModuleKernel& kernel, std::istream& words, const char* arrays_path) {
  dim3 grid, block;
  size_t shared = 0, arrays_bytes = 0;
  words >> grid.x >> grid.y >> grid.z >> block.x >> block.y >> block.z >> shared >> arrays_bytes;
  char* arrays = nullptr;
  if (arrays_bytes) {
    const int file = open(arrays_path, O_RDWR | O_CLOEXEC);
    arrays = static_cast<char*>(mmap(nullptr, arrays_bytes, PROT_READ | PROT_WRITE, MAP_SHARED, file, 0));
    if (file < 0 || arrays == MAP_FAILED) return 98;
    close(file);
  }
  std::vector<Argument> arguments(kernel.kinds.size());
  static std::vector<std::string>* names = new std::vector<std::string>;  // sites keep pointers to them
  names->reserve(arguments.size());
  for (size_t i = 0; i < arguments.size(); ++i) {
    Argument& a = arguments[i];
    std::string kind;
    words >> kind;
    if (kind == "array") {
      words >> a.offset >> a.bytes;
      names->push_back("<argument>");
      const Site site{names->back().c_str(), static_cast<int>(i)};
      if (a.bytes && allocate(&a.device, a.bytes, "an array", site) != cudaSuccess) return 98;
      if (a.bytes) cudaMemcpy(a.device, arrays + a.offset, a.bytes, cudaMemcpyHostToDevice, site);
      a.back = kernel.kinds[i].compare(0, 2, "*c") != 0;
    } else if (kind == "bytes") {
      words >> a.value;
      a.value = from_hex(a.value);
    }
    if (kind != "bytes") a.value.assign(reinterpret_cast<const char*>(&a.device), sizeof(a.device));
  }
  std::vector<void*> places;
  for (Argument& a : arguments) places.push_back(&a.value[0]);
  discarded();  // what is wrong with the call is reported
  launch_registered(kernel.function, {grid, block, shared, nullptr, Site{"<call>", 0}, false, 0}, places.data());
  for (const Argument& a : arguments) {
    if (!a.device) continue;
    if (a.back) {  // not cudaMemcpy: what the kernel left unwritten is the caller's array again
      __builtin_memcpy(arrays + a.offset, a.device, a.bytes);
    }
    cudaFree(a.device, Site{"<call>", 0});
  }
  if (arrays) munmap(arrays, arrays_bytes);
  return 0;
}

}  // namespace

int module_main(int count, char** words, const std::vector<ModuleKernel>& kernels) {
  const std::string order = count > 1 ? words[1] : "";
  if (order == "describe") {
    for (const ModuleKernel& k : kernels) {
      printf("%s\t", k.name);
      for (const std::string& kind : k.kinds) printf("%s ", kind.c_str());
      puts("");
    }
    return 0;
  }
  std::ifstream file(count > 2 ? words[2] : "");
  std::string name;
  std::getline(file, name);
  for (const ModuleKernel& k : kernels)
    if (order == "call" && count > 3 && name == k.name) return call(k, file, words[3]);
  return 98;
}

}  // namespace lab
}  // namespace warploom
