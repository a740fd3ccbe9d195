#!/bin/busybox sh
# SPDX-License-Identifier: MIT
# The first process of the recorded guest: what it does between two marks is a phase of the trace.
# `mark` calls sethostname(2), which the recorder watches; record.py reads the names from here.

mark() {
    hostname "$1"
}

mark userinit
export PATH=/bin
mkdir -p /bin /proc /sys /tmp /dev
/bin/busybox --install -s /bin
mount -t proc proc /proc
mount -t sysfs sysfs /sys
mount -t devtmpfs dev /dev
mount -t tmpfs -o size=90% tmp /tmp

if grep -q record.symbols /proc/cmdline; then
    echo "SYMBOLS BEGIN"
    gzip </proc/kallsyms | base64
    echo "SYMBOLS END"
    poweroff -f
fi

mark idle
sleep 60

mark ls
ls -lR /proc/sys /sys/devices /bin >/tmp/list
wc /tmp/list

mark dd
dd if=/dev/urandom of=/tmp/random bs=4k count=256
dd if=/bin/busybox of=/tmp/copy bs=512
sync

mark gzip
gzip </tmp/copy >/tmp/copy.gz
gunzip </tmp/copy.gz | cmp - /tmp/copy

mark net
ip link set lo up
ping -c 3 127.0.0.1
ping -c 3 -s 20000 127.0.0.1
nc -l -p 5000 >/tmp/got &
sleep 1
nc 127.0.0.1 5000 </tmp/copy
httpd -p 8080 -h /tmp
wget -q -O /dev/null http://127.0.0.1:8080/copy
killall httpd

mark fork
i=0
while [ $i -lt 100 ]; do
    /bin/true
    i=$((i + 1))
done
seq 1 2000 | sort -n | uniq | tail -n 1

mark modules
modprobe -a loop dummy squashfs
losetup /dev/loop0 /tmp/random
mke2fs /dev/loop0 >/dev/null
mkdir /tmp/mnt
mount /dev/loop0 /tmp/mnt
cp /tmp/list /tmp/mnt
sync
cmp /tmp/list /tmp/mnt/list
umount /tmp/mnt
losetup -d /dev/loop0
rmmod dummy

mark zramswap
modprobe -a lzo-rle zram
echo 64M >/sys/block/zram0/disksize
mkswap /dev/zram0
swapon /dev/zram0
for i in 1 2 3 4 5 6 7 8 9 10 11 12 13 14; do
    cat /bin/busybox
done >/tmp/big
awk 'BEGIN {
    for (i = 0; i < 60000; i++) a[i] = i " is here"
    system("cat /tmp/big /tmp/big >/dev/null")
    for (i = 0; i < 60000; i++) n += length(a[i])
    print n
}'
cat /proc/swaps
grep -E '^pswp' /proc/vmstat
rm /tmp/big
swapoff /dev/zram0

mark idle2
sleep 60

mark shellmix
find /proc/sys /sys/class | grep -c net
ps | awk '{ print $1 }' | sort -n | tail -n 3
tar -c -f - /tmp/list /tmp/copy | md5sum
sleep 30 &
kill -9 $!
sh -c 'kill -SEGV $$'
dmesg | tail -n 20 | sed 's/a/b/' >/tmp/log
timeout 1 yes >/dev/null
i=0
while [ $i -lt 50 ]; do
    usleep 3000
    i=$((i + 1))
done
cat /proc/interrupts /proc/softirqs
grep '^pgfault' /proc/vmstat

mark end
poweroff -f
