// helper_string.h - options of the command line, as NVIDIA's samples name them: -name, --name, -name=value.
#pragma once

#include <cstdlib>
#include <cstring>
#include <string>

inline const char* wl_option(int argc, const char** argv,
                             const char* name) {  // what follows "name=", "" for the bare option, or null
  const size_t length = std::string(name).size();
  for (int i = 1; i < argc; ++i) {
    const char* text = argv[i];
    while (*text == '-') ++text;
    if (std::string(text).compare(0, length, name) == 0 && (text[length] == 0 || text[length] == '='))
      return text[length] ? text + length + 1 : "";
  }
  return nullptr;
}
inline bool checkCmdLineFlag(int argc, const char** argv, const char* name) { return wl_option(argc, argv, name) != nullptr; }
inline int getCmdLineArgumentInt(int argc, const char** argv, const char* name) {
  const char* value = wl_option(argc, argv, name);
  return value ? atoi(value) : 0;
}
inline float getCmdLineArgumentFloat(int argc, const char** argv, const char* name) {
  const char* value = wl_option(argc, argv, name);
  return value ? static_cast<float>(atof(value)) : 0.0f;
}
inline bool getCmdLineArgumentString(int argc, const char** argv, const char* name, char** to) {
  const char* value = wl_option(argc, argv, name);
  *to = const_cast<char*>(value);
  return value != nullptr;
}
template <class T>
bool getCmdLineArgumentValue(int argc, const char** argv, const char* name, T* to) {
  const char* value = wl_option(argc, argv, name);
  if (value) *to = static_cast<T>(atoi(value));
  return value != nullptr;
}
inline char* sdkFindFilePath(const char* name, const char*) { return const_cast<char*>(name); }
#define STRNCASECMP strncasecmp
#define STRCASECMP strcasecmp
