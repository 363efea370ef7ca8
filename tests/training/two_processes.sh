# Runs a command twice at once, as --process_id=0 and as --process_id=1; prints both statuses, and fails if either did.
ip link set lo up 2>/dev/null || ifconfig lo up
"$@" --process_id=1 &
other=$!
"$@" --process_id=0
leader=$?
if [ $leader != 0 ]; then # the other has as long as it needs to notice, but need not wait for one that never started
    for second in $(seq 60); do kill -0 $other 2>/dev/null || break; sleep 1; done
    kill $other 2>/dev/null
fi
wait $other
follower=$?
echo "statuses $leader $follower"
[ $leader = 0 ] && [ $follower = 0 ]
