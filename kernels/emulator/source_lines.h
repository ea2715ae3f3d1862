// source_lines.h - where this library lies in memory, and which source line stands behind an address in its code. For the builds that
// are instrumented.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

namespace warploom {
namespace emulator {

struct LibraryPlace {
  uintptr_t base = 0;           // what addr2line counts from
  uintptr_t low = 0, high = 0;  // code, constant tables, static variables
};
extern LibraryPlace library_place __attribute__((visibility("hidden")));
void find_library();  // once, before any kernel runs

struct SourceLine {
  std::string file;  // "kernels/v1_naive_nhwc/conv2d_forward.cu"; empty: not known
  int line = 0;
  std::string function;
  std::string instead;  // where the line is not known: what is, and why the line is not
  std::string text() const { return file.empty() ? instead : file + ":" + std::to_string(line) + " (" + function + ")"; }
};

// The kernels' own lines behind return addresses: the innermost inlined frames that are not the emulator's headers. addr2line
// (binutils) is started for it; not on a fiber.
std::vector<SourceLine> source_lines(const std::vector<uintptr_t>& return_addresses);
std::string source_line(uintptr_t return_address);  // as text; empty for 0
std::string shortened(std::string path);            // from kernels/ on

}  // namespace emulator
}  // namespace warploom
