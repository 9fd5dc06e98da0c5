"""The brute force behind `heal_lib/worlds/own.jsonl`: every answer computed by trying everything, none typed.

Run as a script it writes the file; the test compares the two."""

from fractions import Fraction
from itertools import combinations, permutations, product
from math import comb, gcd, isqrt

PROBLEMS = {}


def problem(text):
    """Registers a function that computes the answer of `text`."""
    def add(compute):
        PROBLEMS[f"own-{len(PROBLEMS) + 1:02d}"] = (text, compute)
        return compute
    return add


def divisors(n):
    return [d for d in range(1, n + 1) if n % d == 0]


def is_prime(n):
    return n > 1 and all(n % d for d in range(2, isqrt(n) + 1))


def digits(n):
    return [int(c) for c in str(n)]


problem("How many positive integers below 500 are divisible by 6 but not by 9?")(
    lambda: sum(n % 6 == 0 and n % 9 != 0 for n in range(1, 500)))
problem("What is the remainder when $7^{222}$ is divided by 1000?")(lambda: pow(7, 222, 1000))
problem("Find the sum of all positive divisors of 720 that are perfect squares.")(
    lambda: sum(d for d in divisors(720) if isqrt(d) ** 2 == d))
problem("How many three-digit numbers have digits whose product is 36?")(
    lambda: sum(digits(n)[0] * digits(n)[1] * digits(n)[2] == 36 for n in range(100, 1000)))
problem("How many ways are there to write 41 as an ordered sum of three positive odd integers and one positive even "
        "integer, the even one last?")(
    lambda: sum(41 - a - b - c > 0 and (41 - a - b - c) % 2 == 0
                for a, b, c in product(range(1, 41, 2), repeat=3)))
problem("Find the smallest positive integer $n$ such that $n$ leaves remainder 3 when divided by 7, remainder 4 when "
        "divided by 9 and remainder 5 when divided by 11.")(
    lambda: next(n for n in range(1, 1000) if n % 7 == 3 and n % 9 == 4 and n % 11 == 5))
problem("How many permutations of $1, 2, 3, 4, 5, 6$ leave exactly two numbers in their own places?")(
    lambda: sum(sum(p[i] == i for i in range(6)) == 2 for p in permutations(range(6))))
problem("Two fair dice are thrown. What is the probability that the product of the numbers is a multiple of 6?")(
    lambda: Fraction(sum(a * b % 6 == 0 for a, b in product(range(1, 7), repeat=2)), 36))
problem("How many subsets of $\\{1, 2, \\dots, 12\\}$ have exactly four elements with an even sum?")(
    lambda: sum(sum(s) % 2 == 0 for s in combinations(range(1, 13), 4)))
problem("Find the number of pairs $(a, b)$ of positive integers with $a \\le b$ and "
        "$\\frac1a + \\frac1b = \\frac1{12}$.")(
    lambda: sum(12 * (a + b) == a * b for a in range(13, 25) for b in range(a, 200)))
problem("What is the largest prime factor of $2^{18} - 1$?")(
    lambda: max(d for d in range(2, 1000) if (2**18 - 1) % d == 0 and is_prime(d)))
problem("How many positive integers $n \\le 200$ are such that $n^2 + n$ is divisible by 10?")(
    lambda: sum((n * n + n) % 10 == 0 for n in range(1, 201)))
problem("Find the sum of all primes $p < 100$ for which $p + 6$ is also prime.")(
    lambda: sum(p for p in range(100) if is_prime(p) and is_prime(p + 6)))
problem("How many lattice points $(x, y)$ satisfy $x^2 + y^2 \\le 30$?")(
    lambda: sum(x * x + y * y <= 30 for x, y in product(range(-6, 7), repeat=2)))
problem("A path goes from $(0, 0)$ to $(6, 4)$ by unit steps right or up and avoids the point $(3, 2)$. How many such "
        "paths are there?")(lambda: comb(10, 4) - comb(5, 2) * comb(5, 2))
problem("What is the greatest common divisor of $10^{12} - 1$ and $10^{8} - 1$?")(lambda: gcd(10**12 - 1, 10**8 - 1))
problem("How many four-digit palindromes are divisible by 7?")(
    lambda: sum(str(n) == str(n)[::-1] and n % 7 == 0 for n in range(1000, 10000)))
problem("The sequence $a_1 = 1$, $a_2 = 3$, $a_{n+2} = a_{n+1} + 2a_n$ is given. What is the remainder when $a_{30}$ "
        "is divided by 100?")(lambda: _recurrence(1, 3, 30) % 100)
problem("How many triples of positive integers $(a, b, c)$ with $a < b < c$ and $a + b + c = 20$ are side lengths of a "
        "triangle?")(
    lambda: sum(a < b < 20 - a - b < a + b for a in range(1, 20) for b in range(1, 20)))
problem("Five distinct balls are put into three distinct boxes so that no box is empty. In how many ways?")(
    lambda: sum(len(set(p)) == 3 for p in product(range(3), repeat=5)))
problem("Find the number of zeros at the end of $125!$.")(lambda: _trailing_zeros(125))
problem("For how many integers $n$ with $1 \\le n \\le 100$ is $n(n+1)(n+2)$ divisible by 24?")(
    lambda: sum(n * (n + 1) * (n + 2) % 24 == 0 for n in range(1, 101)))
problem("What is the smallest positive integer with exactly 15 positive divisors?")(
    lambda: next(n for n in range(1, 1000) if len(divisors(n)) == 15))
problem("How many binary strings of length 10 contain no two consecutive ones?")(
    lambda: sum("11" not in f"{n:010b}" for n in range(1024)))
problem("Three numbers are drawn without replacement from $1, \\dots, 10$. What is the probability that the largest is "
        "exactly 8?")(lambda: Fraction(sum(max(s) == 8 for s in combinations(range(1, 11), 3)), comb(10, 3)))
problem("Find the sum of the digits of $11^{9}$.")(lambda: sum(digits(11**9)))
problem("How many integers between 1 and 1000 are neither perfect squares nor perfect cubes?")(
    lambda: 1000 - len({n**2 for n in range(1, 32)} | {n**3 for n in range(1, 11)}))
problem("How many ordered pairs of integers $(x, y)$ satisfy $xy = 3x + 2y$?")(
    lambda: sum(x * y == 3 * x + 2 * y for x, y in product(range(-60, 61), repeat=2)))
problem("In how many ways can 8 people be split into four unlabelled pairs?")(lambda: _pairings(8))
problem("What is the remainder when $1! + 2! + 3! + \\dots + 50!$ is divided by 84?")(lambda: _factorials(50) % 84)
problem("How many of the first 500 positive integers have an odd number of positive divisors?")(
    lambda: sum(len(divisors(n)) % 2 for n in range(1, 501)))
problem("How many ways are there to pay 50 cents with coins of 5, 10 and 20 cents?")(
    lambda: sum(5 * a + 10 * b + 20 * c == 50 for a in range(11) for b in range(6) for c in range(3)))
problem("What is the value of $\\sum_{k=1}^{20} \\frac{1}{k(k+1)}$?")(
    lambda: sum(Fraction(1, k * (k + 1)) for k in range(1, 21)))
problem("How many numbers from 1 to 300 have digits that are strictly increasing from left to right?")(
    lambda: sum(digits(n) == sorted(set(digits(n))) for n in range(1, 301)))
problem("Find all real solutions' sum of squares for the equation $x^2 - 9x + 14 = 0$.")(
    lambda: sum(x * x for x in range(-50, 51) if x * x - 9 * x + 14 == 0))
problem("How many rectangles (squares included) with sides on the grid lines are there in a $4 \\times 5$ grid of unit "
        "squares?")(lambda: comb(5, 2) * comb(6, 2))
problem("A fair coin is thrown 8 times. What is the probability that heads comes up exactly as often as tails?")(
    lambda: Fraction(sum(sum(p) == 4 for p in product((0, 1), repeat=8)), 2**8))
problem("How many integers $n$ from 1 to 200 satisfy $\\gcd(n, 30) = 5$?")(
    lambda: sum(gcd(n, 30) == 5 for n in range(1, 201)))
problem("What is the largest three-digit number that is divisible by each of its own digits, all of them different?")(
    lambda: max(n for n in range(100, 1000)
                if 0 not in digits(n) and len(set(digits(n))) == 3 and all(n % d == 0 for d in digits(n))))
problem("How many functions $f$ from $\\{1, 2, 3, 4\\}$ to itself satisfy $f(f(x)) = x$ for every $x$?")(
    lambda: sum(all(f[f[x]] == x for x in range(4)) for f in product(range(4), repeat=4)))
problem("How many solutions in non-negative integers does $a + 2b + 3c = 18$ have?")(
    lambda: sum((18 - 2 * b - 3 * c) >= 0 for b in range(10) for c in range(7)))
problem("How many words of five letters over the alphabet $\\{A, B, C\\}$ contain each letter at least once?")(
    lambda: sum(len(set(w)) == 3 for w in product("ABC", repeat=5)))
problem("What is the sum of all two-digit numbers that are three times the product of their digits?")(
    lambda: sum(n for n in range(10, 100) if n == 3 * digits(n)[0] * digits(n)[1]))
problem("Find the area of the triangle with vertices $(1, 2)$, $(7, 3)$ and $(4, 9)$.")(
    lambda: Fraction(abs((7 - 1) * (9 - 2) - (4 - 1) * (3 - 2)), 2))


def _recurrence(a, b, n):
    for _ in range(n - 2):
        a, b = b, b + 2 * a
    return b


def _trailing_zeros(n):
    product_ = 1
    for k in range(2, n + 1):
        product_ *= k
    return len(str(product_)) - len(str(product_).rstrip("0"))


def _factorials(n):
    total = term = 1
    for k in range(2, n + 1):
        term *= k
        total += term
    return total


def _pairings(n):
    return 1 if n == 0 else (n - 1) * _pairings(n - 2)


def rows():
    """{id, problem, answer} of every problem, the answer as it would stand in a box."""
    for key, (text, compute) in PROBLEMS.items():
        value = compute()
        whole = getattr(value, "denominator", 1) == 1
        answer = str(value) if whole else f"\\frac{{{value.numerator}}}{{{value.denominator}}}"
        yield {"id": key, "problem": text, "answer": answer}
