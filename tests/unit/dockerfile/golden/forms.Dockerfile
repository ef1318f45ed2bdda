FROM scratch
RUN ["/bin/echo", "a b", "\u00e9\n"]
RUN ['/bin/echo']
RUN [ -f x ] || exit 1
RUN ["unfinished"
RUN ["one"] trailing
RUN --mount=type=cache,target=/a --mount=type=secret,id=s --network=host --security=insecure --device=gpu true
RUN --mount="type=bind,source=a b,target=/x" --mount=type=bind,source=a\ b,target=/y -- --not-a-flag
CMD
CMD []
CMD ["a", "b"]
CMD  a  b  
ENTRYPOINT ["e"]
ENTRYPOINT e $x
SHELL ["/bin/bash", "-o", "pipefail", "-c"]
HEALTHCHECK NONE
HEALTHCHECK --interval=1h2m3.5s --timeout=500ms --start-period=0s --start-interval=1s --retries=3 CMD curl -f "http://x/"
healthcheck cmd ["curl"]
COPY a b/
COPY --from=Base --chown=1:2 --chmod=0644 --link --parents=true --exclude=*.o --exclude=a* a b c/
COPY --link=false --parents=FALSE ["a b", "c/"]
ADD --keep-git-dir --checksum=sha256:0 --unpack=false --link --exclude=x --chown=a --chmod=1 https://x/y /z
ADD ["a", "b"]
ADD a b
VOLUME /a "/b
VOLUME ["/a b", "/c"]
EXPOSE 80 $port 100-110/UDP
USER $user:${group:-x y}
STOPSIGNAL SIGTERM
WORKDIR /a b
MAINTAINER A B <a@b>
ONBUILD RUN ["x"]
onbuild copy --chown=1 a b
