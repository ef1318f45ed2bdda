FROM debian:12
# one here-document and nothing else is a script
RUN <<EOF
set -e
# not a Dockerfile comment
echo $HOME \
  done
EOF
RUN --network=none <<-'END'
	#!/usr/bin/env python3
		print("tabs are taken, all leading ones")
	END
# with a command, the shell gets everything
RUN cat <<ONE 3<<-"TWO" > /both && \
    # inside a continuation
    echo ok
1
ONE
	2
	TWO
COPY <<plain <<"quoted" a.txt /etc/
$expanded
plain
$kept
quoted
RUN <<EMPTY
EMPTY
ONBUILD COPY <<x /y
body
x
# none of these is one
RUN echo "<<A" '<<B' \<<C <<< D a<<E <<
