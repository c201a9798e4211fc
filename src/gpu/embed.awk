# Writes source.c, the texts that the library hands to GPU compilers, as C strings:
#
#     awk -f src/gpu/embed.awk src/gpu/source.h > src/gpu/source.c
#
# Every line of source.h that begins with "extern" declares an array and names its file.  A line
# `#include "part.metal"` of such a file stands for the file of that name beside it, so that a text
# may be kept in parts.  With -v join=1 the argument is such a file, printed with its parts.

function fail(message) {
    print "embed.awk: " message > "/dev/stderr"
    exit 1
}

function put(file,    folder, line, words, status) {
    folder = file
    sub(/[^\/]*$/, "", folder)
    while ((status = (getline line < file)) > 0) {
        sub(/\r$/, "", line)
        if (line ~ /^#include ".*\.metal"/) {
            split(line, words, "\"")
            put(folder words[2])
            continue
        }
        if (!join) {
            gsub(/[\\"?]/, "\\\\&", line) # "??" would begin a trigraph
            line = "    \"" line "\\n\""
        }
        print line
    }
    if (status < 0) fail("cannot read " file)
    close(file)
}

BEGIN {
    if (join) {
        put(ARGV[1])
        exit
    }
    print "/* Written by embed.awk: do not edit. */"
}

/^extern/ {
    folder = FILENAME
    sub(/[^\/]*$/, "", folder)
    print "\n" $2 " " $3 " " substr($4, 1, length($4) - 1) " ="
    put(folder $6)
    print "    ;"
}
