# WARPLOOM_CUBINS: every kernel file also as cubins, one per architecture, in warploom/_lib/cubins/<folder>/<file>.sm_<arch>.cubin.
# What warploom.kernels lists, and what PyCUDA loads to time and tune one kernel by itself.
option(WARPLOOM_CUBINS "Also build each kernel file as cubins, for warploom.kernels and PyCUDA" OFF)
if(NOT WARPLOOM_CUBINS)
  return()
endif()

set(cubin_architectures "")
foreach(architecture ${CMAKE_CUDA_ARCHITECTURES})
  if(architecture STREQUAL "native")
    string(REGEX MATCHALL "[0-9]+\\.[0-9]" found "${capabilities}")
    foreach(capability ${found})
      string(REPLACE "." "" capability ${capability})
      if(capability GREATER_EQUAL 90)
        string(APPEND capability "a") # with what only this architecture has
      endif()
      list(APPEND cubin_architectures ${capability})
    endforeach()
  elseif(NOT architecture MATCHES "-virtual$")
    string(REPLACE "-real" "" architecture ${architecture})
    list(APPEND cubin_architectures ${architecture})
  endif()
endforeach()
list(REMOVE_DUPLICATES cubin_architectures)
if(NOT cubin_architectures)
  message(FATAL_ERROR "WARPLOOM_CUBINS=ON needs an architecture with machine code in CMAKE_CUDA_ARCHITECTURES, such as 90a-real")
endif()

set(cubin_folder ${PROJECT_BINARY_DIR}/cubins)
if(WARPLOOM_INPLACE)
  set(cubin_folder ${PROJECT_SOURCE_DIR}/python/warploom/_lib/cubins)
endif()
set(cubins "")
foreach(source ${WARPLOOM_KERNEL_SOURCES})
  file(STRINGS ${source} global REGEX "__global__|#include \".*\\.cuh\"")
  if(NOT global) # tables and other host code hold no kernel
    continue()
  endif()
  file(RELATIVE_PATH name ${PROJECT_SOURCE_DIR}/kernels ${source})
  string(REGEX REPLACE "\\.cu$" "" name ${name})
  get_filename_component(folder ${cubin_folder}/${name} DIRECTORY)
  foreach(architecture ${cubin_architectures})
    set(cubin ${cubin_folder}/${name}.sm_${architecture}.cubin)
    add_custom_command(
      OUTPUT ${cubin}
      COMMAND ${CMAKE_COMMAND} -E make_directory ${folder}
      COMMAND ${CMAKE_CUDA_COMPILER} -std=c++17 -O3 -lineinfo -arch=sm_${architecture} -I${PROJECT_SOURCE_DIR} -cubin -MD -MF ${cubin}.d
              ${source} -o ${cubin}
      DEPENDS ${source}
      DEPFILE ${cubin}.d
      COMMENT "Building cubin ${name}.sm_${architecture}"
      VERBATIM)
    list(APPEND cubins ${cubin})
  endforeach()
endforeach()
add_custom_target(warploom_cubins ALL DEPENDS ${cubins})
install(DIRECTORY ${cubin_folder}/ DESTINATION warploom/_lib/cubins FILES_MATCHING PATTERN "*.cubin")
