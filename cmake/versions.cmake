# Reads kernels/versions.def: WARPLOOM_KERNEL_SOURCES holds the .cu files of every registered version, of kernels/ops and of
# kernels/common.
file(STRINGS ${PROJECT_SOURCE_DIR}/kernels/versions.def lines REGEX "^WL_VERSION")
set_property(DIRECTORY APPEND PROPERTY CMAKE_CONFIGURE_DEPENDS ${PROJECT_SOURCE_DIR}/kernels/versions.def)
file(GLOB shared_sources CONFIGURE_DEPENDS ${PROJECT_SOURCE_DIR}/kernels/ops/*.cu ${PROJECT_SOURCE_DIR}/kernels/ops/*/*.cu)
set(WARPLOOM_KERNEL_SOURCES ${PROJECT_SOURCE_DIR}/kernels/common/library.cu ${shared_sources})
foreach(line ${lines})
  string(REGEX REPLACE "^WL_VERSION\\([a-z0-9_]+, *([a-z0-9_]+),.*$" "\\1" folder "${line}")
  file(GLOB sources CONFIGURE_DEPENDS ${PROJECT_SOURCE_DIR}/kernels/${folder}/*.cu)
  if(NOT sources)
    message(FATAL_ERROR "kernels/versions.def names ${folder}, but kernels/${folder} holds no .cu file")
  endif()
  list(APPEND WARPLOOM_KERNEL_SOURCES ${sources})
endforeach()

# The version to copy, kept compiling by CI.
option(WARPLOOM_TEMPLATE "Also build kernels/_template, as version copyme" OFF)
if(WARPLOOM_TEMPLATE)
  file(GLOB sources CONFIGURE_DEPENDS ${PROJECT_SOURCE_DIR}/kernels/_template/*.cu)
  list(APPEND WARPLOOM_KERNEL_SOURCES ${sources})
  add_compile_definitions(WARPLOOM_TEMPLATE)
endif()
