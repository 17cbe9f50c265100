#!/bin/sh
echo second >>$1/out.txt
[ -e $1/begun ] && exit 0
echo $$ >$1/begun
sleep 1000
