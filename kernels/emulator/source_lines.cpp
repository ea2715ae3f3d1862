// source_lines.cpp - source lines from debug information, by addr2line: it comes with the compiler, and is started only when there is
// something to report.
#include "engine.h"
#if defined(WARPLOOM_EMULATOR_INSTRUMENTED)
#include <cxxabi.h>
#include <dlfcn.h>
#include <link.h>
#include <spawn.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cstdio>
#include <cstdlib>

#include "source_lines.h"

extern char** environ;

namespace warploom {
namespace emulator {

LibraryPlace library_place;

namespace {

std::string library_path;
void marker() {}

constexpr size_t kAddressesPerCall = 2000;  // stays far below the limit on arguments

// addr2line -a: every answer begins with a line "0x...", then function and place alternate, innermost first.
std::string run_addr2line(const std::vector<uintptr_t>& return_addresses, size_t first, size_t end) {
  std::vector<std::string> words = {"addr2line", "-a", "-C", "-f", "-i", "-e", library_path};
  for (size_t i = first; i < end; ++i) {
    char address[32];
    // The call ends before its return address.
    snprintf(address, sizeof(address), "0x%zx", static_cast<size_t>(return_addresses[i] - library_place.base - 1));
    words.push_back(address);
  }
  std::vector<char*> arguments;
  for (std::string& word : words) arguments.push_back(&word[0]);
  arguments.push_back(nullptr);
  int ends[2];
  if (pipe(ends) != 0) return "";
  posix_spawn_file_actions_t actions;
  posix_spawn_file_actions_init(&actions);
  posix_spawn_file_actions_adddup2(&actions, ends[1], 1);
  posix_spawn_file_actions_addopen(&actions, 2, "/dev/null", 1, 0);
  posix_spawn_file_actions_addclose(&actions, ends[0]);
  pid_t child = 0;
  const int failed = posix_spawnp(&child, "addr2line", &actions, nullptr, arguments.data(), environ);
  posix_spawn_file_actions_destroy(&actions);
  close(ends[1]);
  std::string output;
  char buffer[4096];
  ssize_t n;
  while (!failed && (n = read(ends[0], buffer, sizeof(buffer))) > 0) output.append(buffer, static_cast<size_t>(n));
  close(ends[0]);
  if (!failed) waitpid(child, nullptr, 0);
  return output;
}

std::string next_line(const std::string& text, size_t* at) {
  const size_t end = text.find('\n', *at);
  std::string line = text.substr(*at, end == std::string::npos ? std::string::npos : end - *at);
  *at = end == std::string::npos ? text.size() : end + 1;
  return line;
}

bool of_the_emulator(const std::string& file) {
#if defined(WARPLOOM_LAB)
  if (file.find("/kernels/lab/") != std::string::npos) return true;
#endif
  return (file.find("kernels/emulator/") != std::string::npos && file.find("/selftest/") == std::string::npos) ||
         file.find("kernels/common/vector.cuh") != std::string::npos ||  // wrappers of one instruction
         file.find("kernels/common/tensor_core.cuh") != std::string::npos ||
         file.find("kernels/common/async_copy.cuh") != std::string::npos ||
         file.find("kernels/common/async_barrier.cuh") != std::string::npos ||
         file.find("kernels/common/bulk_copy.cuh") != std::string::npos ||
         file.find("kernels/common/warpgroup_mma.cuh") != std::string::npos || file.find("/include/c++/") != std::string::npos;
}

std::string plain_name(std::string function) {
  const size_t parenthesis = function.find('(');
  if (parenthesis != std::string::npos) function.resize(parenthesis);
  const size_t space = function.rfind(' ');
  if (space != std::string::npos && function.find('<') == std::string::npos) function = function.substr(space + 1);
  if (function.compare(0, 10, "warploom::") == 0) function.erase(0, 10);
  return function;
}

std::string without_line(uintptr_t pc) {
  Dl_info info;
  char text[64];
  if (dladdr(reinterpret_cast<void*>(pc), &info) && info.dli_sname) {
    int status = 0;
    char* name = abi::__cxa_demangle(info.dli_sname, nullptr, nullptr, &status);
    snprintf(text, sizeof(text), "+0x%zx", static_cast<size_t>(pc - reinterpret_cast<uintptr_t>(info.dli_saddr)));
    const std::string result = std::string(name ? name : info.dli_sname) + text;
    free(name);
    return result + " (no source line: addr2line of binutils is missing)";
  }
  snprintf(text, sizeof(text), "offset 0x%zx", static_cast<size_t>(pc - library_place.base - 1));
  return text + std::string(" of ") + shortened(library_path) + " (no source line: addr2line of binutils is missing)";
}

}  // namespace

void find_library() {
  if (library_place.base) return;
  Dl_info info;
  if (!dladdr(reinterpret_cast<void*>(&marker), &info)) return;
  library_path = info.dli_fname;
  library_place.base = reinterpret_cast<uintptr_t>(info.dli_fbase);
  dl_iterate_phdr(
      [](dl_phdr_info* i, size_t, void*) {
        uintptr_t low = ~uintptr_t(0), high = 0;
        bool here = false;
        for (int k = 0; k < i->dlpi_phnum; ++k) {
          if (i->dlpi_phdr[k].p_type != PT_LOAD) continue;
          const uintptr_t start = i->dlpi_addr + i->dlpi_phdr[k].p_vaddr, end = start + i->dlpi_phdr[k].p_memsz;
          low = start < low ? start : low;
          high = end > high ? end : high;
          const uintptr_t self = reinterpret_cast<uintptr_t>(&marker);
          here = here || (self >= start && self < end);
        }
        if (here) library_place.low = low, library_place.high = high;
        return here ? 1 : 0;
      },
      nullptr);
}

std::string shortened(std::string path) {
#if defined(WARPLOOM_LAB)
  return path;  // a program's own, as it was given
#endif
  for (size_t up; (up = path.find("/../")) != std::string::npos && up > 0;) {
    const size_t folder = path.rfind('/', up - 1);
    path.erase(folder == std::string::npos ? 0 : folder + 1, up + 4 - (folder == std::string::npos ? 0 : folder + 1));
  }
  const size_t kernels = path.rfind("/kernels/");
  if (kernels != std::string::npos) return path.substr(kernels + 1);
  const size_t slash = path.rfind('/');
  const size_t before = slash == std::string::npos || slash == 0 ? std::string::npos : path.rfind('/', slash - 1);
  return before == std::string::npos ? path : path.substr(before + 1);
}

std::vector<SourceLine> source_lines(const std::vector<uintptr_t>& return_addresses) {
  std::vector<SourceLine> found(return_addresses.size());
  for (size_t first = 0; first < found.size(); first += kAddressesPerCall) {
    const size_t end = first + kAddressesPerCall < found.size() ? first + kAddressesPerCall : found.size();
    const std::string output = run_addr2line(return_addresses, first, end);
    size_t at = 0, number = first;
    if (at < output.size()) next_line(output, &at);  // "0x..." of the first
    for (bool own = false; at < output.size() && number < end;) {
      const std::string function = next_line(output, &at);
      if (function.compare(0, 2, "0x") == 0) {
        ++number, own = false;
        continue;
      }
      std::string place = next_line(output, &at);
      if (own || place.compare(0, 2, "??") == 0 || place.compare(0, 2, ":?") == 0) continue;
      const size_t note = place.find(" (discriminator");
      if (note != std::string::npos) place.resize(note);
      place = shortened(place);
      const size_t colon = place.rfind(':');
      SourceLine& line = found[number];
      own = !of_the_emulator(place);
      if (!own && !line.file.empty()) continue;
      line.file = place.substr(0, colon);
      line.line = colon == std::string::npos ? 0 : atoi(place.c_str() + colon + 1);
      line.function = plain_name(function);
    }
  }
  for (size_t i = 0; i < found.size(); ++i)
    if (found[i].file.empty()) found[i].instead = without_line(return_addresses[i]);
  return found;
}

std::string source_line(uintptr_t return_address) { return return_address ? source_lines({return_address})[0].text() : ""; }

}  // namespace emulator
}  // namespace warploom
#endif
