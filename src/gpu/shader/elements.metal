// Elements in device memory, single and in 32-bit words, and floats in registers.

template <typename T> struct Word {
    enum { COUNT = 2 };
    static void unpack(uint word, thread float *to)
    {
        float2 pair = float2(as_type<vec<T, 2>>(word));
        to[0] = pair.x;
        to[1] = pair.y;
    }
    static uint pack(thread const float *from)
    {
        return as_type<uint>(vec<T, 2>(float2(from[0], from[1])));
    }
};

template <> struct Word<float> {
    enum { COUNT = 1 };
    static void unpack(uint word, thread float *to)
    {
        to[0] = as_type<float>(word);
    }
    static uint pack(thread const float *from)
    {
        return as_type<uint>(from[0]);
    }
};

// N words that are moved as one.
template <int N> struct Words {
    typedef vec<uint, N> type;
    static uint get(type words, int i)
    {
        return words[i];
    }
    static void set(thread type &words, int i, uint word)
    {
        words[i] = word;
    }
};

template <> struct Words<1> {
    typedef uint type;
    static uint get(type only, int)
    {
        return only;
    }
    static void set(thread type &only, int, uint word)
    {
        only = word;
    }
};

// N neighbouring elements, on a multiple of their size in bytes if N > 1.  They are fetched as they
// lie in memory and unpacked where they are used, so that many fetches can be under way.
template <typename T, int N> struct Elements {
    enum { COUNT = N / Word<T>::COUNT };
    typedef typename Words<COUNT>::type words;
    static words fetch(device const T *from)
    {
        return *reinterpret_cast<device const words *>(from);
    }
    static void unpack(words w, thread float *to)
    {
#pragma unroll
        for (int i = 0; i < COUNT; i++)
            Word<T>::unpack(Words<COUNT>::get(w, i), to + i * Word<T>::COUNT);
    }
    static void load(device const T *from, thread float *to)
    {
        unpack(fetch(from), to);
    }
    static void store(thread const float *from, device T *to)
    {
        words w;
#pragma unroll
        for (int i = 0; i < COUNT; i++)
            Words<COUNT>::set(w, i, Word<T>::pack(from + i * Word<T>::COUNT));
        *reinterpret_cast<device words *>(to) = w;
    }
};

template <typename T> struct Elements<T, 1> {
    typedef T words;
    static words fetch(device const T *from)
    {
        return from[0];
    }
    static void unpack(words w, thread float *to)
    {
        to[0] = float(w);
    }
    static void load(device const T *from, thread float *to)
    {
        unpack(fetch(from), to);
    }
    static void store(thread const float *from, device T *to)
    {
        to[0] = T(from[0]);
    }
};

typedef Elements<VALUE, VECTOR> Values;
