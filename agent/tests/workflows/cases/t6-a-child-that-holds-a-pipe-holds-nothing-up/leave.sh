#!/bin/sh
(sleep 20; echo late >$1/late) &
printf ':::begin-tedge:::\n{"x":1}\n:::end-tedge:::\n'
