#include "csrc/core/registry.h"

#include <dirent.h>
#include <dlfcn.h>

#include <algorithm>
#include <cstdlib>
#include <map>
#include <mutex>

#include "csrc/core/errors.h"

namespace warploom {
namespace {

std::string library_folder() {
  Dl_info info;
  if (!dladdr(reinterpret_cast<const void*>(&library_folder), &info)) return "_lib";
  const std::string self = info.dli_fname;
  const size_t slash = self.rfind('/');
  return (slash == std::string::npos ? std::string(".") : self.substr(0, slash)) + "/_lib";
}

// Several libraries may serve one kind (cpu_avx512, cpu_avx2, cpu_baseline): the narrowest instruction set comes last.
int preference(const std::string& path) {
  if (path.find("cpu_avx512") != std::string::npos) return 0;
  if (path.find("cpu_avx2") != std::string::npos) return 1;
  return 2;
}

LoadedLibrary load(const std::string& path) {
  LoadedLibrary l;
  l.path = path;
  const std::string stem = path.substr(path.rfind('/') + 1, path.size() - path.rfind('/') - 4);
  // Until the library itself says.
  l.kind = stem == "checked" || stem == "counting" ? "emulated:" + stem : stem.substr(0, stem.find('_'));
  void* handle = dlopen(path.c_str(), RTLD_NOW | RTLD_LOCAL);
  if (!handle) {
    const char* e = dlerror();
    l.why = std::string("cannot load ") + path + ": " + (e ? e : "unknown reason");
    return l;
  }
  using Export = const DeviceLibrary* (*)();
  const auto function = reinterpret_cast<Export>(dlsym(handle, "warploom_device_library"));
  if (!function) {
    l.why = path + " is not a device library: it exports no warploom_device_library()";
    return l;
  }
  const DeviceLibrary* library = function();
  if (library->abi != DeviceLibrary::kAbi) {
    l.why = path + " was built for another version of warploom; reinstall the package";
    return l;
  }
  using InteropExport = const Interop* (*)();
  if (const auto interop = reinterpret_cast<InteropExport>(dlsym(handle, "warploom_interop"))) l.interop = interop();
  l.counters = reinterpret_cast<const char* (*)(const char*)>(dlsym(handle, "warploom_counters"));
  l.library = library;
  l.kind = library->kind;
  l.devices = library->count(&l.why);
  return l;
}

std::vector<LoadedLibrary> load_all() {
  std::vector<std::string> paths;
  const std::string folder = library_folder();
  if (DIR* d = opendir(folder.c_str())) {
    while (const dirent* e = readdir(d)) {
      const std::string file = e->d_name;
      if (file.size() > 3 && file.substr(file.size() - 3) == ".so" && file.rfind("selftest", 0) != 0)
        paths.push_back(folder + "/" + file);
    }
    closedir(d);
  }
  std::sort(paths.begin(), paths.end(), [](const std::string& a, const std::string& b) {
    return std::make_pair(preference(a), a) < std::make_pair(preference(b), b);
  });
  std::vector<LoadedLibrary> all;
  for (const auto& p : paths) all.push_back(load(p));
  return all;
}

std::string versions_of(const DeviceLibrary& library) {
  std::string s;
  for (int i = 0; i < library.table_count; i++) s += (i ? ", " : "") + std::string(library.tables[i]->version);
  return s;
}

}  // namespace

namespace {
// Never destroyed: devices may be asked until the very end.
std::mutex& libraries_mutex() {
  static auto* mutex = new std::mutex;
  return *mutex;
}
std::vector<LoadedLibrary>& libraries() {  // with the mutex held
  static auto* all = new std::vector<LoadedLibrary>(load_all());
  return *all;
}
}  // namespace

std::vector<LoadedLibrary> loaded_libraries() {
  const std::lock_guard<std::mutex> lock(libraries_mutex());
  return libraries();
}

void add_library(const std::string& path) {
  const std::lock_guard<std::mutex> lock(libraries_mutex());
  for (const auto& l : libraries())
    if (l.path == path) return;
  const LoadedLibrary l = load(path);
  if (!l.usable()) throw DeviceError(l.why);
  libraries().push_back(l);
}

const OpTable& OpenDevice::table(const std::string& version) const {
  for (int i = 0; i < library->table_count; i++)
    if (version == library->tables[i]->version) return *library->tables[i];
  throw UnsupportedError("device '" + name + "' has no version '" + version + "'; it has " + versions_of(*library));
}

OpenDevice open_device(const std::string& name) {
  static auto& mutex = *new std::mutex;
  // Never closed: a GPU context torn down during interpreter exit may outlive the driver it talks to.
  static auto* opened = new std::map<std::string, OpenDevice>();
  const std::lock_guard<std::mutex> lock(mutex);
  const auto found = opened->find(name);
  if (found != opened->end()) return found->second;

  std::string kind = name;
  int index = 0;
  if (name.rfind("cuda:", 0) == 0) {
    kind = "cuda";
    const std::string digits = name.substr(5);
    if (digits.empty() || digits.size() > 4 || digits.find_first_not_of("0123456789") != std::string::npos)
      throw DeviceError("device '" + name + "' has no valid index; write cuda or cuda:0, cuda:1, ...");
    index = std::stoi(digits);
  }
  const char* isa = std::getenv("WARPLOOM_CPU_ISA");
  std::string kinds, why;
  for (const auto& l : loaded_libraries()) {
    if (kinds.find(l.kind) == std::string::npos) kinds += (kinds.empty() ? "" : ", ") + l.kind;
    if (l.kind != kind) continue;
    if (kind == "cpu" && isa && *isa && l.path.find(std::string("cpu_") + isa + ".so") == std::string::npos) continue;
    if (!l.usable()) {
      why = l.why;
      continue;
    }
    if (index >= l.devices)
      throw DeviceError("device '" + name + "' is not there: this machine has " + std::to_string(l.devices) + " usable GPU(s)");
    OpenDevice d{name, std::shared_ptr<Device>(l.library->open(index)), l.library, l.interop, index};
    (*opened)[name] = d;
    return d;
  }
  if (kind == "cuda" && why.empty())
    why = "this installation was built without CUDA; to add it, see the README's part on building";
  if (why.empty())
    why = kind == "cpu" && isa ? std::string("no kernel set for WARPLOOM_CPU_ISA=") + isa : "this installation holds " + kinds;
  throw DeviceError("device '" + name + "' is not usable: " + why);
}

std::vector<std::string> own_entries(const DeviceLibrary& library, const OpTable& table) {
  const OpTable* base = nullptr;
  for (int i = 0; i < library.table_count; i++)
    if (std::string(library.tables[i]->version) == table.float32_from) base = library.tables[i];
  std::vector<std::string> own;
#define WL_OP(name, Args) \
  if (table.name.run && (!base || table.name.run != base->name.run)) own.push_back(#name);
#include "kernels/ops.def"
#undef WL_OP
  return own;
}

}  // namespace warploom
