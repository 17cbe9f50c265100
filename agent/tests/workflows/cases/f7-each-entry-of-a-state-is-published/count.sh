n=$(($1 + 1))
status=count
[ $n -lt 3 ] || status=successful
printf ':::begin-tedge:::\n{"status":"%s","n":%s}\n:::end-tedge:::\n' $status $n
