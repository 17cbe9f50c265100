#!/bin/sh
(sleep 3; echo late >$1/late) &
printf ':::begin-tedge:::\n{"x":1}\n:::end-tedge:::\n'
