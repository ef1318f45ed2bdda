# Syntax = docker/dockerfile:1
#escape=`
# check=skip=all;error=true
# unknown=ends the directives
# escape=\

ARG TAG=1 `
    # a comment in a continuation
    NAME="a b" OTHER

   from  --platform=$BUILDPLATFORM   windows:$TAG   as   Base-1.x_y
RUN dir c:\ `   
  && echo two blanks stay

run echo ``
Workdir C:\dir\
CMD echo `

  # still the same instruction
    hi
