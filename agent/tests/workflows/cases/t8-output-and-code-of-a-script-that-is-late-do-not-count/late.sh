#!/bin/sh
trap 'printf ":::begin-tedge:::\n{\"status\":\"wrong\",\"x\":1}\n:::end-tedge:::\n"; exit 0' TERM
sleep 20 &
wait
