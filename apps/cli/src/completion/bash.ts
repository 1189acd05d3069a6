/**
 * Completion for bash 4.3 and later. Bash splits words at `=` and `:`, which are put together again, and of what is offered only the
 * part after the last of them is wanted back.
 */
export const bash: string = String.raw`# bash completion for img
_img() {
  local rest=${'$'}{COMP_LINE:0:COMP_POINT} words=() word gap i
  for ((i = 0; i <= COMP_CWORD; i++)); do
    word=${'$'}{COMP_WORDS[i]}
    gap=${'$'}{rest%%[![:space:]]*}
    rest=${'$'}{rest#"$gap"}
    ((i == COMP_CWORD)) && word=$rest
    if [[ -z $gap && $i -gt 0 ]]; then words[-1]+=$word; else words+=("$word"); fi
    rest=${'$'}{rest#"$word"}
  done
  local program=${'$'}{words[0]/#\~\//$HOME/} current=${'$'}{words[-1]} prefix= line flags=
  if [[ $COMP_WORDBREAKS == *=* && $current == *[=:]* ]]; then prefix=${'$'}{current%"${'$'}{current##*[=:]}"}; fi
  COMPREPLY=()
  while IFS= read -r line; do
    if [[ $line == :* ]]; then flags=${'$'}{line#:}; continue; fi
    line=${'$'}{line%%$'\t'*}
    COMPREPLY+=("${'$'}{line#"$prefix"}")
  done < <("$program" __complete -- "${'$'}{words[@]:1}" 2>/dev/null </dev/null)
  [[ $flags == *open* ]] && compopt -o nospace
  [[ $flags == *files* ]] && compopt -o default
  return 0
}
complete -F _img img
`
