/** Completion for fish 3 and later. */
export const fish: string = `# fish completion for img
function __img_complete
    set -l words (commandline -opc)
    set -l current (commandline -ct)
    set -l flags ''
    for line in ($words[1] __complete -- $words[2..-1] "$current" 2>/dev/null </dev/null)
        if string match -q ':*' -- $line
            set flags $line
        else
            echo $line
        end
    end
    if string match -q '*files*' -- $flags
        if string match -q -- '*=*' $current
            set -l lead (string replace -r '=[^=]*$' '=' -- $current)
            for file in (__fish_complete_path (string replace -r '^.*=' '' -- $current))
                echo $lead$file
            end
        else
            __fish_complete_path $current
        end
    end
end
complete -c img -f -a '(__img_complete)'
`
