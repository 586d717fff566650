#!/usr/bin/env python3
"""A kernel in PTX as a shared library that runs on the CPU: ptx.py KERNEL.ptx LIBRARY.so

One C statement for each instruction, registers as variables, branches as gotos; device.h has what runs them. The library has

    parameters()   how many parameters the kernel takes
    sizes()        the bytes of each
    run(launch)    a launch (device.h), done when it returns

What PTX there is beyond what kernels have needed so far is refused by name. Sources: PTX ISA 9, of NVIDIA.
"""

import os
import re
import subprocess
import sys
import tempfile
from pathlib import Path

HERE = Path(__file__).resolve().parent
SIZES = {"pred": 1, "b8": 1, "u8": 1, "s8": 1, "b16": 2, "u16": 2, "s16": 2, "bf16": 2, "b32": 4, "u32": 4, "s32": 4, "f32": 4, "b64": 8, "u64": 8, "s64": 8, "f64": 8}
SIGNED = {"s8": "int8_t", "s16": "int16_t", "s32": "int32_t", "s64": "int64_t"}
COMPARED = {"eq": "==", "ne": "!=", "lt": "<", "le": "<=", "gt": ">", "ge": ">=", "lo": "<", "ls": "<=", "hi": ">", "hs": ">="}
OPPOSITE = {"equ": "!=", "neu": "==", "ltu": ">=", "leu": ">", "gtu": "<=", "geu": "<"}
AXES = {"x": 0, "y": 1, "z": 2}
# Of one operand or two, in f32.
OF_FLOATS = {
    "add": "{0} + {1}", "sub": "{0} - {1}", "mul": "{0} * {1}", "div": "{0} / {1}", "neg": "-{0}", "abs": "fabsf({0})", "sqrt": "sqrtf({0})",
    "rcp": "1.f / {0}", "rsqrt": "1.f / sqrtf({0})", "ex2": "exp2f({0})", "lg2": "log2f({0})", "sin": "sinf({0})", "cos": "cosf({0})",
    "tanh": "tanhf({0})", "min": "fminf({0}, {1})", "max": "fmaxf({0}, {1})", "copysign": "copysignf({1}, {0})",
    "min_nan": "{0} != {0} || {0} < {1} ? {0} : {1}", "max_nan": "{0} != {0} || {0} > {1} ? {0} : {1}",
}
IN_PLACE = {"add": "+", "sub": "-", "and": "&", "or": "|", "xor": "^"}


class Unknown(Exception):
    pass


class Translation:
    def __init__(self, ptx):
        ptx = re.sub(r"//[^\n]*", "", ptx)
        ptx = "\n".join(line for line in ptx.splitlines() if not re.match(r"\s*\.(loc|pragma|file)\b", line))
        self.name, head, body = parts(ptx)
        self.parameters = {}
        for declared in head.split(","):
            found = re.search(r"\.param\s+(?:\.align\s+\d+\s+)?\.(\w+)\s+([\w$]+)(?:\[(\d+)\])?", declared)
            if found:
                kind, name, count = found.groups()
                self.parameters[name] = SIZES[kind] * int(count or 1)
        self.shared, self.fixed = {}, 0
        for dynamic in [False, True]:
            for external, alignment, kind, name, count in re.findall(r"(\.extern\s+)?\.shared\s+\.align\s+(\d+)\s+\.(\w+)\s+([\w$]+)\[(\d*)\]", ptx):
                if bool(external) != dynamic:
                    continue
                self.fixed = -(-self.fixed // int(alignment)) * int(alignment)
                self.shared[name] = self.fixed
                self.fixed += SIZES[kind] * int(count or 0)
        self.scopes, self.products, self.meets = [{}], set(), False
        self.lines = counted([self.statement(text) for text in statements(body)])

    def source(self):
        products = "".join(
            f"static void {name}(Warp *warp, b32 members) {{ {'wmma' if kind == 'wmma' else 'mma'}(warp, {', '.join(map(str, sizes))}); }}\n"
            for name, kind, sizes in sorted(self.products)
        )
        return "\n".join([
            f'#include "{HERE / "device.h"}"', products,
            "static void kernel(Thread *t, void **parameters) {", *self.lines, "}",
            f"int parameters(void) {{ return {len(self.parameters)}; }}",
            f"const int *sizes(void) {{ static const int all[] = {{{', '.join(map(str, self.parameters.values())) or 0}}}; return all; }}",
            f'int run(const Launch *launch) {{ return run_blocks(launch, "{self.name}", {self.fixed}, {int(not self.meets)}); }}', "",
        ])

    # Operands

    def declared(self, name):
        return next((scope[name] for scope in reversed(self.scopes) if name in scope), None)

    def read(self, operand, kind):
        """An operand as a C expression of the type that an instruction takes it as."""
        operand = operand.strip()
        if operand.startswith("!"):
            return f"(!{self.read(operand[1:], kind)})"
        found = re.fullmatch(r"0[fF]([0-9a-fA-F]{8})", operand)
        if found:
            return self.cast(f"0x{found[1]}u", "b32", kind)
        found = re.fullmatch(r"0[dD]([0-9a-fA-F]{16})", operand)
        if found:
            return self.cast(f"0x{found[1]}ull", "b64", kind)
        if re.fullmatch(r"-?(0[xX][0-9a-fA-F]+|\d+)U?", operand):
            value = int(operand.rstrip("U"), 0) % (1 << 64)
            return f"(({SIGNED.get(kind) or self.unsigned(kind)}){value}ull)"
        declared = self.declared(operand)
        if declared:
            return self.cast(variable(operand), declared, kind)
        found = re.fullmatch(r"%(tid|ntid|ctaid|nctaid)\.([xyz])", operand)
        if found:
            place = {"tid": "t->tid", "ntid": "t->block->launch->block", "ctaid": "t->block->ctaid", "nctaid": "t->block->launch->grid"}
            return f"{place[found[1]]}[{AXES[found[2]]}]"
        if operand == "WARP_SZ":
            return "WARP"
        if operand == "%laneid":
            return "t->lane"
        if operand in self.parameters:
            return f"(b64)parameters[{list(self.parameters).index(operand)}]"
        if operand in self.shared:
            return f"{self.shared[operand]}u"
        raise Unknown(f"operand {operand}")

    @staticmethod
    def unsigned(kind):
        return "f32" if kind == "f32" else "f64" if kind == "f64" else f"b{8 * SIZES[kind]}" if kind != "pred" else "pred"

    def cast(self, expression, declared, kind):
        if declared == kind:
            return expression
        if kind == "f32":
            return f"real({expression})"
        if kind == "f64":
            return f"real64({expression})"
        if declared == "f32":
            expression = f"bits({expression})"
        return f"(({SIGNED[kind]}){expression})" if kind in SIGNED else f"(({self.unsigned(kind)}){expression})"

    def write(self, operand, kind, expression):
        operand = operand.strip()
        if operand == "_":
            return f"(void)({expression});"
        declared = self.declared(operand)
        if not declared:
            raise Unknown(f"destination {operand}")
        if declared == "f32" and kind != "f32":
            expression = f"real({expression})"
        elif declared != "f32" and kind == "f32":
            expression = f"bits({expression})"
        return f"{variable(operand)} = {expression};"

    def address(self, operand):
        base, _, offset = operand.strip().strip("[]").partition("+")
        base = base.strip()
        declared = self.declared(base)
        text = variable(base) if declared else self.read(base, "b64")
        return f"{text} + {offset.strip()}" if offset else text

    def place(self, space, operand, size, how="read"):
        address = self.address(operand)
        return f"in_shared(t, {address}, {size})" if space == "shared" else f"{how}_at(t, {address}, {size})"

    # Statements

    def statement(self, text):
        if text == "{":
            self.scopes.append({})
            return text
        if text == "}":
            self.scopes.pop()
            return text
        if text.endswith(":"):
            return f"{variable(text[:-1])}:;"
        if text.startswith(".reg"):
            return self.registers(text)
        if text.startswith(".shared"):
            return ""
        if text.startswith(".local"):
            alignment, name, count = re.match(r"\.local\s+\.align\s+(\d+)\s+\.b8\s+([\w$]+)\[(\d+)\]", text).groups()
            self.scopes[-1][name] = "b64"
            return f"char {variable(name)}_bytes[{count}] __attribute__((aligned({alignment}))); b64 {variable(name)} = (b64){variable(name)}_bytes;"
        guard, text = re.match(r"(?:@(!?[%\w$]+)\s+)?(.*)", text, re.S).groups()
        operation, _, rest = text.partition(" ")
        operation, tail = re.match(r"(\S+)(.*)", text, re.S).groups()
        done = self.instruction(operation.split("."), operands(tail))
        return f"if ({self.read(guard, 'pred')}) {{ {done} }}" if guard else done

    def registers(self, text):
        kind, names = re.match(r"\.reg\s+\.(\w+)\s+(.*)", text, re.S).groups()
        kind = kind if kind in ["pred", "f32", "f64"] else self.unsigned(kind)
        all_names = []
        for name in names.split(","):
            counted = re.fullmatch(r"\s*([%\w$]+)<(\d+)>\s*", name)
            all_names += [f"{counted[1]}{i}" for i in range(int(counted[2]))] if counted else [name.strip()]
        self.scopes[-1] |= dict.fromkeys(all_names, kind)
        return f"{kind} {', '.join(map(variable, all_names))};"

    def instruction(self, op, x):
        name, kind = op[0], op[-1]
        known = getattr(self, f"_{name}", None)
        done = known(op, x) if known else None
        if done is not None:
            return done
        if name in OF_FLOATS and kind == "f32":
            name = name + "_nan" if "NaN" in op else name
            return self.write(x[0], kind, self.finish(op, OF_FLOATS[name].format(*[self.read(y, kind) for y in x[1:]])))
        if name in IN_PLACE and kind not in ["f32", "f64"]:
            whole = self.unsigned(kind)
            return self.write(x[0], whole, f"{self.read(x[1], whole)} {IN_PLACE[name]} {self.read(x[2], whole)}")
        raise Unknown(".".join(op))

    def finish(self, op, expression):
        if "rm" in op or "rp" in op or "rz" in op:
            raise Unknown(".".join(op))
        return f"saturated({expression})" if "sat" in op else expression

    def _ret(self, op, x):
        return "return;"

    def _exit(self, op, x):
        return "return;"

    def _bra(self, op, x):
        return f"goto {variable(x[0])};"

    def _bar(self, op, x):
        self.meets = True
        if op[1] == "warp":
            return f"meet(t, {self.read(x[0], 'b32')}, NULL, NULL);"
        return "rest(t, AT_BARRIER);" if x == ["0"] else None

    def _fence(self, op, x):
        return ""

    _membar = _fence

    def _mov(self, op, x):
        kind, whole = op[-1], self.unsigned(op[-1])
        vector = re.fullmatch(r"\{(.*)\}", x[1], re.S)
        if vector:
            parts = vector[1].split(",")
            part = 8 * SIZES[kind] // len(parts)
            return self.write(x[0], whole, " | ".join(f"({whole}){self.read(y, f'b{part}')} << {part * i}" for i, y in enumerate(parts)))
        vector = re.fullmatch(r"\{(.*)\}", x[0], re.S)
        if vector:
            parts = vector[1].split(",")
            part = 8 * SIZES[kind] // len(parts)
            value = self.read(x[1], whole)
            return f"{{ {whole} whole = {value}; " + " ".join(self.write(y, f"b{part}", f"(b{part})(whole >> {part * i})") for i, y in enumerate(parts)) + " }"
        return self.write(x[0], whole, self.read(x[1], whole))

    def _cvta(self, op, x):
        if "shared" not in op:
            return self.write(x[0], "b64", self.read(x[1], "b64"))
        if "to" in op:
            return self.write(x[0], "b64", f"{self.read(x[1], 'b64')} - (b64)t->block->shared")
        return self.write(x[0], "b64", f"(b64)t->block->shared + {self.read(x[1], 'b64')}")

    def _selp(self, op, x):
        kind = self.unsigned(op[-1])
        return self.write(x[0], kind, f"{self.read(x[3], 'pred')} ? {self.read(x[1], kind)} : {self.read(x[2], kind)}")

    def _setp(self, op, x):
        how, kind = op[1], op[-1]
        if len(op) != 3 or "|" in x[0]:
            return None
        a, b = self.read(x[1], kind), self.read(x[2], kind)
        if how in OPPOSITE and kind == "f32":
            return self.write(x[0], "pred", f"!({a} {OPPOSITE[how]} {b})" if how != "equ" else f"!({a} < {b} || {a} > {b})")
        if how == "ne" and kind == "f32":
            return self.write(x[0], "pred", f"({a} < {b} || {a} > {b})")
        return self.write(x[0], "pred", f"{a} {COMPARED[how]} {b}") if how in COMPARED else None

    def _not(self, op, x):
        kind = self.unsigned(op[-1])
        return self.write(x[0], kind, f"{'!' if kind == 'pred' else '~'}{self.read(x[1], kind)}")

    def _neg(self, op, x):
        if op[-1] in ["s32", "s64"]:
            kind = self.unsigned(op[-1])
            return self.write(x[0], kind, f"0 - {self.read(x[1], kind)}")

    def _shl(self, op, x):
        kind = op[-1]
        return self.write(x[0], kind, f"shl{max(32, 8 * SIZES[kind])}({self.read(x[1], kind)}, {self.read(x[2], 'b32')})")

    def _shr(self, op, x):
        kind = op[-1]
        how = f"shr{'s' if kind in SIGNED else 'u'}{max(32, 8 * SIZES[kind])}"
        return self.write(x[0], self.unsigned(kind), f"{how}({self.read(x[1], kind)}, {self.read(x[2], 'b32')})")

    def _min(self, op, x):
        return self.choice(op, x, "<")

    def _max(self, op, x):
        return self.choice(op, x, ">")

    def choice(self, op, x, sign):
        kind = op[-1]
        if kind in ["f32", "f64"]:
            return None
        a, b = self.read(x[1], kind), self.read(x[2], kind)
        return self.write(x[0], self.unsigned(kind), f"{a} {sign} {b} ? {a} : {b}")

    def _mul(self, op, x):
        kind, whole = op[-1], self.unsigned(op[-1])
        if kind in ["f32", "f64"]:
            return None
        if op[1] == "lo":
            return self.write(x[0], whole, f"{self.read(x[1], whole)} * {self.read(x[2], whole)}")
        wide = f"{self.wide(kind)}{self.read(x[1], kind)} * {self.wide(kind)}{self.read(x[2], kind)}"
        if op[1] == "wide":
            return self.write(x[0], f"b{16 * SIZES[kind]}", f"(b{16 * SIZES[kind]})({wide})")
        if op[1] == "hi" and SIZES[kind] == 4:
            return self.write(x[0], whole, f"(b32)(({wide}) >> 32)")

    @staticmethod
    def wide(kind):
        return f"({'int' if kind in SIGNED else 'uint'}{16 * SIZES[kind]}_t)"

    def _mad(self, op, x):
        kind, whole = op[-1], self.unsigned(op[-1])
        if op[1] == "lo":
            return self.write(x[0], whole, f"{self.read(x[1], whole)} * {self.read(x[2], whole)} + {self.read(x[3], whole)}")
        if op[1] == "wide":
            double = f"b{16 * SIZES[kind]}"
            product = f"{self.wide(kind)}{self.read(x[1], kind)} * {self.wide(kind)}{self.read(x[2], kind)}"
            return self.write(x[0], double, f"({double})({product}) + {self.read(x[3], double)}")

    def _div(self, op, x):
        return self.divided(op, x, "div")

    def _rem(self, op, x):
        return self.divided(op, x, "rem")

    def divided(self, op, x, what):
        kind = op[-1]
        if kind in ["u32", "s32", "u64"]:
            return self.write(x[0], self.unsigned(kind), f"{what}{kind}({self.read(x[1], kind)}, {self.read(x[2], kind)})")

    def _fma(self, op, x):
        a, b, c = [self.read(y, "f32") for y in x[1:]]
        if op[-1] != "f32" or op[1] not in ["rn", "rm"]:
            return None
        return self.write(x[0], "f32", f"fma_down({a}, {b}, {c})" if op[1] == "rm" else self.finish(op, f"fmaf({a}, {b}, {c})"))

    def _bfi(self, op, x):
        return self.write(x[0], "b32", f"insert_bits({', '.join(self.read(y, 'b32') for y in x[1:])})")

    def _prmt(self, op, x):
        return self.write(x[0], "b32", f"permute_bytes({', '.join(self.read(y, 'b32') for y in x[1:])})") if op == ["prmt", "b32"] else None

    def _cvt(self, op, x):
        how, to, source = op[1:-2], op[-2], op[-1]
        if op[1:] == ["rn", "bf16x2", "f32"]:
            return self.write(x[0], "b32", f"(b32)to_bf16({self.read(x[1], 'f32')}) << 16 | to_bf16({self.read(x[2], 'f32')})")
        value = self.read(x[1], source if source != "bf16" else "b16")
        integers = lambda kind: kind[0] in "us"
        if integers(to) and integers(source) and not how:
            return self.write(x[0], self.unsigned(to), f"({self.unsigned(to)})({self.signed_or_not(to)}){value}")
        if to == "f32" and how == ["rn"] and integers(source):
            return self.write(x[0], to, f"(f32){value}")
        if source == "f32" and how == ["rzi"] and to in ["s32", "u32"]:
            return self.write(x[0], "b32", f"{'to_int' if to == 's32' else 'to_unsigned'}({value})")
        special = {"sat.f32.f32": "saturated({})", "rna.tf32.f32": "to_tf32({})", "f32.bf16": "of_bf16({})", "rn.bf16.f32": "to_bf16({})",
                   "rni.f32.f32": "rintf({})", "rmi.f32.f32": "floorf({})", "rpi.f32.f32": "ceilf({})", "rzi.f32.f32": "truncf({})"}
        found = special.get(".".join(op[1:]))
        return self.write(x[0], "f32" if to == "f32" else "b16" if to == "bf16" else "b32", found.format(value)) if found else None

    def signed_or_not(self, kind):
        return SIGNED.get(kind) or self.unsigned(kind)

    # Memory

    def _ld(self, op, x):
        kind, space = self.moved(op)
        if space == "param":
            base = x[1].strip("[]").split("+")[0].strip()
            if base in self.parameters or self.declared(base):
                return self.loaded(x[0], kind, f"(char *)({self.address(x[1])})")
        names = vector(x[0])
        return self.loaded(x[0], kind, self.place(space, x[1], SIZES[kind] * len(names)))

    def loaded(self, target, kind, place):
        whole, names = self.unsigned(kind), vector(target)
        signed = f"({SIGNED[kind]})" if kind in SIGNED else ""
        values = " ".join(self.write(name, whole, f"{signed}(({whole} *)place)[{i}]") for i, name in enumerate(names))
        return f"{{ char *place = {place}; {values} }}"

    def _st(self, op, x):
        kind, space = self.moved(op)
        whole, names = self.unsigned(kind), vector(x[1])
        values = " ".join(f"(({whole} *)place)[{i}] = {self.read(name, whole)};" for i, name in enumerate(names))
        return f"{{ char *place = {self.place(space, x[0], SIZES[kind] * len(names), 'write')}; {values} }}"

    @staticmethod
    def moved(op):
        spaces = [part for part in op[1:] if part in ["shared", "global", "local", "param"]]
        left = set(op[1:-1]) - {"shared", "global", "local", "param", "nc", "v2", "v4", "volatile", "relaxed", "weak"}
        if left or op[-1] not in SIZES:
            raise Unknown(".".join(op))
        return op[-1], spaces[0] if spaces else "generic"

    def _atom(self, op, x):
        if op[-2:] == ["add", "f32"] and not set(op[1:-2]) - {"relaxed", "global", "gpu", "shared", "cta"}:
            space = "shared" if "shared" in op else "global"
            return self.write(x[0], "f32", f"atomic_add_f32({self.place(space, x[1], 4)}, {self.read(x[2], 'f32')})")

    def _cp(self, op, x):
        if op[1:3] == ["async", "mbarrier"] and op[3] == "arrive":
            return ""  # it counts what it waits for up, and down again once all is there, which it is
        if op[1:3] == ["async", "bulk"] and op[3] == "tensor":
            tensor, corner = re.fullmatch(r"\[\s*(\S+)\s*,\s*\{(.*)\}\s*\]", x[1], re.S).groups()
            corner = ", ".join(self.read(y, "b32") for y in corner.split(","))
            first = f"t, {self.address(x[0])}, {self.address(tensor)}, (b32[]){{{corner}}}"
            if "im2col" in op:
                offsets = ", ".join(self.read(y, "b16") for y in vector(x[3]))
                return f"copy_columns({first}, (b16[]){{{offsets}}}, {self.address(x[2])});"
            return f"copy_tensor({first}, {self.address(x[2])});"
        if op[1] == "async" and op[2] in ["ca", "cg"]:
            taken = self.read(x[3], "b32") if len(x) > 3 else x[2]
            return f"copy_async(t, {self.address(x[0])}, {self.address(x[1])}, {x[2]}, {taken});"
        if op[1] == "async" and op[2] in ["commit_group", "wait_group", "wait_all"]:
            return ""

    def _mbarrier(self, op, x):
        self.meets = True
        if op[1] == "init":
            return f"mbarrier_init(t, {self.address(x[0])}, {self.read(x[1], 'b32')});"
        if op[1] == "arrive":
            expected = "expect_tx" in op
            count = "1" if expected or len(x) < 3 else self.read(x[2], "b32")
            changed = f"mbarrier_change(t, {self.address(x[1])}, {count}, {self.read(x[2], 'b32') if expected else 0})"
            return self.write(x[0], "b64", changed)
        if op[1] == "try_wait":
            phase = self.read(x[2], "b32" if "parity" in op else "b64")
            return self.write(x[0], "pred", f"mbarrier_wait(t, {self.address(x[1])}, {phase})")

    # What a warp does together

    def _activemask(self, op, x):
        return self.write(x[0], "b32", "t->warp->live")

    def _elect(self, op, x):
        target, chosen = x[0].split("|")
        members = self.read(x[1], "b32")
        return self.write(chosen, "pred", f"t->lane == __builtin_ctz({members})") + " " + self.write(target, "b32", f"__builtin_ctz({members})")

    def _shfl(self, op, x):
        self.meets = True
        target, _, within = x[0].partition("|")
        value, other, clamp, members = [self.read(y, "b32") for y in x[1:]]
        kept = self.write(within, "pred", "within") if within else ""
        found = f"shuffle(t, SHUFFLE_{op[2].upper()}, {value}, {other}, {clamp}, {members}, &within)"
        return f"{{ pred within; {self.write(target, 'b32', found)} {kept} }}"

    def _vote(self, op, x):
        self.meets = True
        if op[2] == "ballot":
            return self.write(x[0], "b32", f"ballot(t, {self.read(x[1], 'pred')}, {self.read(x[2], 'b32')})")

    def _wmma(self, op, x):
        self.meets = True
        m, n, k = next(tuple(map(int, re.findall(r"\d+", part))) for part in op if re.fullmatch(r"m\d+n\d+k\d+", part))
        bf16 = int("bf16" in op)
        if op[1] == "mma":
            return self.product(x, (f"wmma_{m}_{n}_{k}_{bf16}", "wmma", (m, n, k, bf16)))
        column = int("col" in op)
        if op[1] == "store" or op[2] == "c":
            store = op[1] == "store"
            where, names = (x[0], vector(x[1])) if store else (x[1], vector(x[0]))
            given = ", ".join(self.read(name, "f32") for name in names) if store else "0"
            taken = "" if store else " ".join(self.write(name, "f32", f"values[{i}]") for i, name in enumerate(names))
            placed = f"wmma_place(t, values, {self.generic(op, where)}, {self.read(x[2], 'b32')}, {m}, {n}, {column}, {int(store)});"
            return f"{{ f32 values[{len(names)}] = {{{given}}}; {placed} {taken} }}"
        if op[-1] not in ["tf32", "bf16"]:
            return None
        rows, columns = (m, k) if op[2] == "a" else (k, n)
        names = vector(x[0])
        taken = " ".join(self.write(name, "b32", f"registers[{i}]") for i, name in enumerate(names))
        loaded = f"wmma_load(t, registers, {self.generic(op, x[1])}, {self.read(x[2], 'b32')}, {rows}, {columns}, {column}, {bf16});"
        return f"{{ b32 registers[{len(names)}]; {loaded} {taken} }}"

    def generic(self, op, operand):
        return f"(b64)t->block->shared + {self.address(operand)}" if "shared" in op else self.address(operand)

    def _mma(self, op, x):
        self.meets = True
        bf16 = int("bf16" in op)
        if ".".join(op[2:]) in ["aligned.m16n8k8.row.col.f32.tf32.tf32.f32", "aligned.m16n8k16.row.col.f32.bf16.bf16.f32"]:
            k = 16 if bf16 else 8
            return self.product(x, (f"mma_{k}_{bf16}", "mma", (k, bf16)))

    def product(self, x, act):
        self.products.add(act)
        a, b, c = [", ".join(self.read(name, kind) for name in vector(y)) for y, kind in zip(x[1:], ["b32", "b32", "f32"])]
        taken = " ".join(self.write(name, "f32", f"own.d[{i}]") for i, name in enumerate(vector(x[0])))
        return f"{{ Product own = {{.a = {{{a}}}, .b = {{{b}}}, .c = {{{c}}}}}; meet(t, ~0u, {act[0]}, &own); {taken} }}"


def parts(ptx):
    """Name, parameters and body of the one kernel in a module."""
    found = re.search(r"\.entry\s+([\w$]+)\s*\((.*?)\)", ptx, re.S)
    if not found:
        raise Unknown("a module without a kernel")
    start = ptx.index("{", found.end())
    depth = 0
    for i in range(start, len(ptx)):
        depth += {"{": 1, "}": -1}.get(ptx[i], 0)
        if depth == 0:
            return found[1], found[2], ptx[start + 1:i]
    raise Unknown("a kernel without an end")


def statements(body):
    pending = ""
    for piece in re.split(r"([;{}])", body):
        if piece == ";":
            if pending.strip():
                yield pending.strip()
            pending = ""
        elif piece in ["{", "}"] and not pending.strip():
            yield piece
            pending = ""
        else:
            pending += piece
            label = re.match(r"\s*([$\w]+:)(?!:)(.*)", pending, re.S)
            while label:
                yield label[1]
                pending = label[2]
                label = re.match(r"\s*([$\w]+:)(?!:)(.*)", pending, re.S)


def counted(lines):
    """The same, with the instructions up to the next label or branch counted before the first of them."""
    found, segment = [], []
    for line in [*lines, "return;"]:
        if line.endswith(":;") or "goto " in line or line == "return;" or line in "{}":
            count = sum(not re.match(r"(b8|b16|b32|b64|f32|f64|pred|char) ", part) for part in segment) + ("goto " in line)
            found += [f"INSTRUCTIONS({count});"] * bool(count) + segment + [line]
            segment = []
        else:
            segment.append(line)
    return found


def operands(text):
    """Split at the commas outside of brackets."""
    found, depth = [""], 0
    for character in text:
        depth += {"{": 1, "[": 1, "}": -1, "]": -1}.get(character, 0)
        if character == "," and depth == 0:
            found.append("")
        else:
            found[-1] += character
    return [operand.strip() for operand in found if operand.strip()]


def vector(operand):
    return [name.strip() for name in operand.strip().strip("{}").split(",")]


def variable(name):
    return "v_" + re.sub(r"\W", "_", name)


def main():
    given, library = sys.argv[1:]
    try:
        source = Translation(Path(given).read_text()).source()
    except Unknown as unknown:
        sys.exit(f"{given}: {unknown}")
    with tempfile.TemporaryDirectory() as folder:
        c, made = Path(folder) / "kernel.c", Path(folder) / "kernel.so"
        c.write_text(source)
        flags = ["-O1", "-march=native", "-ffp-contract=off", "-fno-strict-aliasing", "-fwrapv", "-U_FORTIFY_SOURCE", "-fopenmp", "-w", *["-DCOUNT"] * ("CUDA_STUB_COUNT" in os.environ)]
        subprocess.run(["cc", *flags, "-shared", "-fPIC", "-o", made, c, "-lm"], check=True)
        made.rename(library) if Path(library).parent.stat().st_dev == made.stat().st_dev else Path(library).write_bytes(made.read_bytes())


if __name__ == "__main__":
    main()
