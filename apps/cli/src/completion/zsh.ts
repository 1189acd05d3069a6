/** Completion for zsh: as a file `_img` in `fpath`, or sourced. */
export const zsh: string = String.raw`#compdef img
_img() {
  local -a lines found
  local line flags word
  lines=("${'$'}{(@f)$("${'$'}{(Q)words[1]}" __complete -- "${'$'}{(@Q)words[2,CURRENT-1]}" "${'$'}{(Q)PREFIX}" 2>/dev/null </dev/null)}")
  for line in "${'$'}{lines[@]}"; do
    if [[ $line == :* ]]; then
      flags=${'$'}{line#:}
    elif [[ -n $line ]]; then
      word=${'$'}{${'$'}{line%%$'\t'*}//:/\\:}
      if [[ $line == *$'\t'* ]]; then found+=("$word:${'$'}{line#*$'\t'}"); else found+=("$word"); fi
    fi
  done
  if (( ${'$'}{#found} )); then
    if [[ $flags == *open* ]]; then _describe -t img img found -S ''; else _describe -t img img found; fi
  fi
  if [[ $flags == *files* ]]; then
    compset -P '*='
    _files
  fi
}
if [[ ${'$'}{funcstack[1]} == _img ]]; then _img "$@"; else compdef _img img; fi
`
