ARG a b="c d" e= f='g' h=i\ j k=l=m
FROM x
ENV old  the   rest = "as is" $x
ENV a=1 b="2 3" c=4\ 5 d='6 7'"8" e=
ENV f="\"" g='\' h=\= 
ENV i="unclosed reaches on j=1
LABEL "com.example/$x"=1 plain=2 "q r"="s t"
LABEL old style
LABEL a="1" \
      # comment
      b="2"
ARG x=$y
