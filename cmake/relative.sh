#!/bin/sh
# relative.sh FOLDER BACK COMMAND...: runs the command, with BACK in place of FOLDER where an argument, or what stands behind its -I,
# begins with it.
# g++ writes a source's path as it was given into what -fsanitize=bounds tells, whatever -ffile-prefix-map says, and CMake gives it
# whole. By a relative path two places build the same bytes.
folder=$1 back=$2
shift 2
for argument; do
  shift
  case $argument in
    "$folder"/*) argument=$back${argument#"$folder"} ;;
    -I"$folder" | -I"$folder"/*) argument=-I$back${argument#-I"$folder"} ;; # headers have their path from there
  esac
  set -- "$@" "$argument"
done
exec "$@"
