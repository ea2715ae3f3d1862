// report.cpp - what was found goes out as lines of JSON; warploom.lab reads them and writes what people read.
#include <fcntl.h>
#include <unistd.h>

#include <cstdio>
#include <cstdlib>
#include <mutex>
#include <set>

#include "../emulator/source_lines.h"
#include "state.h"

namespace warploom {
namespace lab {
namespace {

std::mutex& lock() {
  static std::mutex* m = new std::mutex;
  return *m;
}

std::string quoted(const std::string& value) {
  std::string text = "\"";
  for (const char c : value) {
    char escape[8];
    if (c == '"' || c == '\\')
      text += '\\', text += c;
    else if (static_cast<unsigned char>(c) < 0x20)
      snprintf(escape, sizeof(escape), "\\u%04x", c), text += escape;
    else
      text += c;
  }
  return text + '"';
}

}  // namespace

int report_file() {
  static const int file = [] {
    const char* path = getenv("WARPLOOM_LAB_REPORT");
    return path && *path ? open(path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0644) : 2;
  }();
  return file;
}

void Line::key(const char* name) {
  if (text_.size() > 1) text_ += ", ";
  text_ += quoted(name) + ": ";
}
Line& Line::put(const char* name, const std::string& value) {
  key(name);
  text_ += quoted(value);
  return *this;
}
Line& Line::put(const char* name, unsigned long long value) {
  key(name);
  text_ += std::to_string(value);
  return *this;
}
Line& Line::raw(const char* name, const std::string& json) {
  key(name);
  text_ += json;
  return *this;
}
Line& Line::put(const char* name, const Site& site) {
  key(name);
  text_ += "{\"file\": " + quoted(site.file ? site.file : "") + ", \"line\": " + std::to_string(site.line) + "}";
  return *this;
}
Line& Line::triple(const char* name, unsigned long long x, unsigned long long y, unsigned long long z) {
  key(name);
  text_ += "[" + std::to_string(x) + ", " + std::to_string(y) + ", " + std::to_string(z) + "]";
  return *this;
}
Line& Line::code(const char* name, uintptr_t pc) {
  return put(name,
             static_cast<unsigned long long>(pc - emulator::library_place.base - 1));  // the call ends before its return address
}
void Line::write() {
  const std::string text = text_ + "}\n";
  const std::lock_guard<std::mutex> hold(lock());
  for (size_t done = 0; done < text.size();) {
    const ssize_t n = ::write(report_file(), text.data() + done, text.size() - done);
    if (n <= 0) return;
    done += static_cast<size_t>(n);
  }
}

void report(const char* level, const char* code, const Site& site, const std::string& message) {
  static std::set<std::string>* seen = new std::set<std::string>;  // a line in a loop is one mistake
  {
    const std::lock_guard<std::mutex> hold(lock());
    const std::string key = std::string(code) + (site.file ? site.file : "") + ":" + std::to_string(site.line);
    if (seen->size() > 200 || !seen->insert(key).second) return;
  }
  Line("finding").put("level", level).put("code", code).put("at", site).put("message", message).write();
}

// Between two control characters, for the reader of the report.
std::string buffer_name(const Site& site) {
  return std::string("\x01") + (site.file ? site.file : "") + ":" + std::to_string(site.line) + "\x02";
}

}  // namespace lab
}  // namespace warploom
